-- SLAs that are promised by configuration, immutable once applied; the runs that are under a version name it.
create table sla_config (
    name       text not null,
    version    int not null,
    body       text not null,
    source     text not null,
    digest     text not null,
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text,
    primary key (name, version)
);
