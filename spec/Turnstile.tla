----------------------------- MODULE Turnstile -----------------------------
(* The whole protocol: Ownership.tla's steps, and what the turns decide, with the eight properties of the   *)
(* promise. A turn loads, is decided on what was loaded, and is applied: other workers act in between.      *)

EXTENDS Ownership

CONSTANTS
    Log,             \* Log[p]: the commands of a partition in order, duplicates included
    MaxOpen,         \* how many workflows may be open, in all partitions together
    TurnRecords,     \* the most records of one turn
    Crashes,         \* how many crashes, and claims of what somebody owns, a behaviour may hold
    Losses,          \* how many lost answers, and publishers replaced by an older owner's, it may hold
    \* The checks of the protocol, all TRUE; a mutant leaves one out.
    VersionKept,     \* apply refuses a workflow's row that is no newer
    OneCommit,       \* workflows and journal are written together
    IdsChecked,      \* apply looks at the registry of ids
    CounterChecked,  \* apply looks at the counter of open workflows
    Deduplicated,    \* a known command id gets its first answer
    VersionExpected, \* a stale expected_version is refused
    TerminalKept,    \* a terminal state allows no transition
    FailClosed       \* an unavailable guard denies

VARIABLES
    workflows,   \* workflows[p][id]: the row of a workflow, or Absent
    journal,     \* journal[p]: one row for each record, in seq order
    open,        \* the counter of open workflows
    work,        \* work[w][p]: a turn that was loaded and is not applied yet, or Idle
    crashes,     \* how many of Crashes there were
    losses       \* how many of Losses there were

Mishaps == <<crashes, losses>>
vars == <<protocol, workflows, journal, open, work, Mishaps>>

(* One definition: a workflow starts as new; new -> busy asks a guard. *)
Initial == "new"
Terminal == {"done"}
States == {"new", "busy", "done"}
Transitions == {<<"new", "busy">>, <<"busy", "new">>, <<"new", "done">>, <<"busy", "done">>}
Guarded == {<<"new", "busy">>}

Absent == [state |-> "absent", version |-> 0]
Idle == [records |-> 0]
Ids == UNION {{Log[p][i].workflow : i \in DOMAIN Log[p]} : p \in Parts}
Accepted == {"created", "moved"}
Binding == Accepted \cup {"exists", "limit", "missing", "terminal", "stale", "impossible", "denied"}

------------------------------------------------------------------------------
(* The fold of a workflow's events, as far as a journal goes. *)

Fold(rows, id) ==
    LET its == {i \in DOMAIN rows : rows[i].workflow = id /\ rows[i].outcome \in Accepted}
    IN  IF its = {} THEN Absent
        ELSE LET last == rows[CHOOSE i \in its : \A j \in its : j <= i]
             IN  [state |-> last.to, version |-> last.version]

(* The row of the journal that a command leaves: `rows` the journal as it was loaded and goes on in this turn, *)
(* `taken` ids known to be elsewhere, `room` how many more may be open.                                        *)
Decided(command, verdict, rows, taken, room) ==
    LET found == Fold(rows, command.workflow)
        step == <<found.state, command.to>>
        first == {i \in DOMAIN rows : rows[i].command = command.id /\ rows[i].outcome \in Binding}
        Row(outcome, version) ==
            [command |-> command.id, workflow |-> command.workflow, outcome |-> outcome, from |-> found.state,
             to |-> IF outcome \in Accepted THEN command.to ELSE found.state, version |-> version,
             expects |-> command.expects, verdict |-> verdict]
        Refused(outcome) == Row(outcome, found.version)
    IN  IF Deduplicated /\ first # {} THEN Refused("repeated")
        ELSE IF command.creates THEN
            IF found # Absent \/ command.workflow \in taken THEN Refused("exists")
            ELSE IF room <= 0 THEN Refused("limit")
            ELSE Row("created", 1)
        ELSE IF found = Absent THEN Refused("missing")
        ELSE IF TerminalKept /\ found.state \in Terminal THEN Refused("terminal")
        ELSE IF VersionExpected /\ command.expects \notin {0, found.version} THEN Refused("stale")
        ELSE IF step \notin Transitions /\ (TerminalKept \/ found.state \notin Terminal) THEN Refused("impossible")
        ELSE IF step \in Guarded /\ verdict = "deny" THEN Refused("denied")
        ELSE IF step \in Guarded /\ verdict = "unavailable" /\ FailClosed THEN Refused("unavailable")
        ELSE Row("moved", found.version + 1)

OpenDelta(row_) ==
    IF row_.outcome = "created" THEN 1
    ELSE IF row_.outcome = "moved" /\ row_.to \in Terminal /\ row_.from \notin Terminal THEN 0 - 1 ELSE 0

RECURSIVE Opened(_)
Opened(rows) == IF rows = <<>> THEN 0 ELSE OpenDelta(Head(rows)) + Opened(Tail(rows))

(* The rows of a turn, each decided on the rows before it. *)
RECURSIVE TurnFrom(_, _, _, _, _, _)
TurnFrom(commands, verdicts, rows, done, taken, room) ==
    IF commands = <<>> THEN done
    ELSE LET next == Decided(Head(commands), Head(verdicts), rows \o done, taken, room - Opened(done))
         IN  TurnFrom(Tail(commands), Tail(verdicts), rows, Append(done, next), taken, room)

Turn(w, p, room) ==
    LET loaded == work[w][p] IN
    TurnFrom(SubSeq(Log[p], mine[w][p].offset + 1, mine[w][p].offset + loaded.records), loaded.verdicts,
             SubSeq(journal[p], 1, loaded.seen), <<>>, loaded.taken, room)

------------------------------------------------------------------------------
Losing == losses < Losses /\ losses' = losses + 1 /\ UNCHANGED crashes

(* Load: read what a turn needs, and ask its guards. *)

Registered(p) == {id \in Ids : \E q \in Parts \ {p} : workflows[q][id] # Absent}

Load(w, p) ==
    /\ Active(w, p)
    /\ work[w][p] = Idle
    /\ \E n \in 1 .. TurnRecords :
        /\ mine[w][p].offset + n <= Len(Log[p])
        /\ \E verdicts \in [1 .. n -> {"allow", "deny", "unavailable"}] :
            /\ \A i \in 1 .. n : verdicts[i] \in Log[p][mine[w][p].offset + i].verdicts
            /\ work' = [work EXCEPT ![w][p] = [records |-> n, verdicts |-> verdicts, seen |-> Len(journal[p]),
                                               taken |-> Registered(p)]]
    /\ UNCHANGED <<protocol, workflows, journal, open, Mishaps>>

Created(rows) == {rows[i].workflow : i \in {j \in DOMAIN rows : rows[j].outcome = "created"}}
Changed(rows) == {rows[i].workflow : i \in {j \in DOMAIN rows : rows[j].outcome \in Accepted}}
Taken(p, rows) == IF IdsChecked THEN {id \in Created(rows) : \E q \in Parts : workflows[q][id] # Absent} ELSE {}
Full(rows) == CounterChecked /\ Opened(rows) > 0 /\ open + Opened(rows) > MaxOpen

(* apply_v1 behind its fence: rows of workflows that changed behind their owner end the turn, too. *)
Kept(w, p, rows) ==
    VersionKept => \A id \in Changed(rows) \ Created(rows) :
        workflows[p][id].version < Fold(SubSeq(journal[p], 1, work[w][p].seen) \o rows, id).version

Stored(w, p, rows) ==
    /\ journal' = [journal EXCEPT ![p] = @ \o rows]
    /\ LET written == [workflows EXCEPT ![p] = [id \in Ids |->
              IF id \in Changed(rows) THEN Fold(SubSeq(journal[p], 1, work[w][p].seen) \o rows, id) ELSE @[id]]]
       IN  workflows' \in IF OneCommit THEN {written} ELSE {written, workflows}
    /\ open' = open + Opened(rows)

(* Nobody looks at the counter at first: only the store can see it. A full one is looked at under its lock. *)
Room(w, p) == IF Full(Turn(w, p, MaxOpen + 1)) THEN MaxOpen - open ELSE MaxOpen + 1

ApplyTurn(w, p) ==
    /\ work[w][p] # Idle
    /\ LET rows == Turn(w, p, Room(w, p)) IN
        /\ Passes(w, p)
        /\ Taken(p, rows) = {}
        /\ Kept(w, p, rows)
        /\ Stored(w, p, rows)
        /\ \/ Apply(w, p, work[w][p].records, Len(rows)) /\ UNCHANGED Mishaps
           \/ ApplyUnheard(w, p, work[w][p].records, Len(rows)) /\ Losing
    /\ work' = [work EXCEPT ![w][p] = Idle]

(* Ids were taken meanwhile: nothing is written, the turn is decided again with that fact. *)
Conflict(w, p) ==
    /\ work[w][p] # Idle
    /\ Passes(w, p)
    /\ LET rows == Turn(w, p, Room(w, p)) IN
        /\ Taken(p, rows) # {}
        /\ work' = [work EXCEPT ![w][p].taken = @ \cup Taken(p, rows)]
    /\ UNCHANGED <<protocol, workflows, journal, open, Mishaps>>

FencedTurn(w, p) ==
    /\ work[w][p] # Idle
    /\ Fenced(w, p) \/ (LetGo(w, p) /\ ~Kept(w, p, Turn(w, p, Room(w, p))))
    /\ work' = [work EXCEPT ![w][p] = Idle]
    /\ UNCHANGED <<workflows, journal, open, Mishaps>>

------------------------------------------------------------------------------
Init ==
    /\ InitProtocol
    /\ workflows = [p \in Parts |-> [id \in Ids |-> Absent]]
    /\ journal = [p \in Parts |-> <<>>]
    /\ open = 0
    /\ work = [w \in Workers |-> [p \in Parts |-> Idle]]
    /\ crashes = 0
    /\ losses = 0

UnchangedDecisions == UNCHANGED <<workflows, journal, open>>

(* What goes wrong is bounded in number; a claim while somebody owns the partition is how a paused owner is met. *)
Crashing == crashes < Crashes /\ crashes' = crashes + 1 /\ UNCHANGED losses

ClaimPart(w, p) ==
    /\ ~Owns(w, p)
    /\ Claim(w, p)
    /\ IF \E v \in Workers : Owns(v, p) THEN Crashing ELSE UNCHANGED Mishaps
    /\ work' = [work EXCEPT ![w][p] = Idle]
    /\ UnchangedDecisions

CrashWorker(w) ==
    /\ \E p \in Parts : Relays(w, p)
    /\ Crash(w)
    /\ Crashing
    /\ work' = [work EXCEPT ![w] = [p \in Parts |-> Idle]]
    /\ UnchangedDecisions

Recover(w, p) ==
    /\ \/ mine[w][p].producer = 0 /\ Fence(w, p) /\ UNCHANGED <<work, Mishaps>>
       \/ mine[w][p].producer > 0 /\ mine[w][p].producer < kafka[p].producer /\ ProducerFenced
            /\ Fence(w, p) /\ Losing /\ UNCHANGED work
       \/ ReadCursor(w, p) /\ UNCHANGED <<work, Mishaps>>
       \/ Overtaken(w, p) /\ work' = [work EXCEPT ![w][p] = Idle] /\ UNCHANGED Mishaps
    /\ UnchangedDecisions

Relay(w, p) ==
    /\ \E rows \in 1 .. TurnRecords :
        \/ \E unsent \in {0, 1} : Publish(w, p, rows, unsent) /\ UNCHANGED Mishaps
        \/ PublishUnheard(w, p, rows) /\ Losing
    /\ UNCHANGED work
    /\ UnchangedDecisions

Next ==
    \/ \E w \in Workers : CrashWorker(w)
    \/ \E w \in Workers, p \in Parts :
        ClaimPart(w, p) \/ Recover(w, p) \/ Load(w, p) \/ ApplyTurn(w, p) \/ Conflict(w, p) \/ FencedTurn(w, p)
        \/ Relay(w, p)

Spec == Init /\ [][Next]_vars

------------------------------------------------------------------------------
(* The eight properties, and those beside them. *)

Events(p) == {i \in DOMAIN journal[p] : journal[p][i].outcome \in Accepted}
Event == UNION {{<<p, i>> : i \in Events(p)} : p \in Parts}
At(e) == journal[e[1]][e[2]]

WorkflowUniqueness ==
    \A e, f \in Event : e # f => ~(At(e).outcome = "created" /\ At(f).outcome = "created"
                                   /\ At(e).workflow = At(f).workflow)

TransitionValidity ==
    \A e \in Event : IF At(e).outcome = "created" THEN At(e).from = "absent" /\ At(e).to = Initial
                     ELSE <<At(e).from, At(e).to>> \in Transitions

StateConsistency ==
    \A p \in Parts, id \in Ids :
        /\ workflows[p][id] = Fold(journal[p], id)
        /\ workflows[p][id] = Absent \/ workflows[p][id].state \in States

ConcurrentSafety ==
    \A e, f \in Event : e # f => ~(At(e).workflow = At(f).workflow /\ At(e).outcome = "moved"
                                   /\ At(f).outcome = "moved" /\ At(e).expects = At(f).expects /\ At(e).expects > 0)

TerminalStateImmutability == \A e \in Event : At(e).from \notin Terminal

VersionMonotonicity ==
    \A p \in Parts, id \in Ids :
        LET its == SelectSeq(journal[p], LAMBDA each : each.workflow = id /\ each.outcome \in Accepted)
        IN  \A i \in DOMAIN its : its[i].version = i

BoundedWorkflows ==
    LET alive == {<<p, id>> \in Parts \X Ids : workflows[p][id] # Absent /\ workflows[p][id].state \notin Terminal}
    IN  Cardinality(alive) <= MaxOpen /\ open = Cardinality(alive)

PredicateLogicIntegration ==
    \A e \in Event : <<At(e).from, At(e).to>> \in Guarded => At(e).verdict = "allow"

(* Each record of the log has exactly one row, in the order of the log. *)
OneOutcomeEach ==
    \A p \in Parts :
        /\ row[p].offset = Len(journal[p]) /\ row[p].seq = Len(journal[p]) + 1
        /\ \A i \in DOMAIN journal[p] : journal[p][i].command = Log[p][i].id

(* However often a command comes, it is accepted once. *)
AcceptedOnce ==
    \A p \in Parts : \A i, j \in Events(p) : i # j => journal[p][i].command # journal[p][j].command

(* Reached at the end of a behaviour in which all went as it should; an invariant that must be violated. *)
NotFinished == ~(\A p \in Parts : row[p].offset = Len(Log[p]) /\ kafka[p].cursor = Len(Log[p]) + 1)
=============================================================================
