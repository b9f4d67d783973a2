-- Calendars, immutable once applied. Workers of the versions before know nothing of them and need nothing of them.

-- `holidays` is JSON: their names by date, as the library `holidays_from` knew them when the version was applied.
create table calendar (
    name          text not null,
    version       int not null,
    body          text not null,
    holidays      text not null,
    holidays_from text not null,
    source        text not null,
    digest        text not null,
    applied_at    timestamptz not null default clock_timestamp(),
    applied_by    text,
    primary key (name, version)
);
