----------------------------- MODULE Ownership -----------------------------
(* Who may decide and who may publish: claims, turns, publishers and relays of partitions, with crashes.   *)
(* A paused worker takes no step. What a turn decides is Turnstile.tla's; a recorded run is held against   *)
(* the actions of this module by Recorded.tla.                                                             *)

EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    Workers,
    Parts,
    \* The checks of the protocol, all TRUE; a mutant leaves one or two out.
    EpochChecked,      \* apply looks at the epoch
    TurnChecked,       \* apply looks at the turn and the next offset
    ProducerFenced,    \* the broker refuses all but the newest producer
    CursorAfterFence,  \* the cursor is read once older producers are fenced
    AllSent            \* a transaction commits only if each of its sends was answered

VARIABLES
    row,    \* the store:  row[p] = the partition's row
    kafka,  \* the broker: kafka[p] = its newest producer, the relay's cursor, the committed transactions
    mine    \* a worker:   mine[w][p] = what it believes of a partition, lost with a crash

protocol == <<row, kafka, mine>>

Nothing == [epoch |-> 0, turn |-> 0, offset |-> 0, seq |-> 0, producer |-> 0, read |-> FALSE, cursor |-> 0]

InitProtocol ==
    /\ row = [p \in Parts |-> [epoch |-> 0, turn |-> 0, offset |-> 0, seq |-> 1]]
    /\ kafka = [p \in Parts |-> [producer |-> 0, cursor |-> 1, log |-> <<>>]]
    /\ mine = [w \in Workers |-> [p \in Parts |-> Nothing]]

Owns(w, p) == mine[w][p].epoch > 0
Relays(w, p) == mine[w][p].seq > 0                     \* also after its last turn, until it claims again
Active(w, p) == Owns(w, p) /\ mine[w][p].cursor > 0    \* it has recovered: turns may be taken

------------------------------------------------------------------------------
(* claim_v1; the group's generation only dampens and is left out. *)

Claim(w, p) ==
    /\ row' = [row EXCEPT ![p].epoch = @ + 1]
    /\ mine' = [mine EXCEPT ![w][p] =
                  [Nothing EXCEPT !.epoch = row[p].epoch + 1, !.turn = row[p].turn,
                                  !.offset = row[p].offset, !.seq = row[p].seq]]
    /\ UNCHANGED kafka

ClaimUnheard(w, p) ==
    /\ row' = [row EXCEPT ![p].epoch = @ + 1]
    /\ mine' = [mine EXCEPT ![w][p] = Nothing]
    /\ UNCHANGED kafka

(* Revoked and drained: the partition is let go; nothing is written anywhere. *)
LetGo(w, p) ==
    /\ Relays(w, p)
    /\ mine' = [mine EXCEPT ![w][p] = Nothing]
    /\ UNCHANGED <<row, kafka>>

Crash(w) ==
    /\ mine' = [mine EXCEPT ![w] = [p \in Parts |-> Nothing]]
    /\ UNCHANGED <<row, kafka>>

------------------------------------------------------------------------------
(* A publisher's start: it fences the older ones, then reads the cursor. A relay may start another later. *)

Fence(w, p) ==
    /\ Relays(w, p)
    /\ kafka' = [kafka EXCEPT ![p].producer = @ + 1]
    /\ mine' = [mine EXCEPT ![w][p].producer = kafka[p].producer + 1,
                            ![w][p].read = IF CursorAfterFence THEN FALSE ELSE @]
    /\ UNCHANGED row

(* A cursor above what the claim said is not believed; see Overtaken. *)
ReadCursor(w, p) ==
    /\ Relays(w, p)
    /\ IF CursorAfterFence THEN mine[w][p].producer > 0 ELSE mine[w][p].producer = 0
    /\ ~mine[w][p].read
    /\ kafka[p].cursor <= mine[w][p].seq
    /\ mine' = [mine EXCEPT ![w][p].cursor = kafka[p].cursor, ![w][p].read = TRUE]
    /\ UNCHANGED <<row, kafka>>

(* Another owner applied and published between this one's claim and its start: it lets go and claims again. *)
Overtaken(w, p) ==
    /\ Relays(w, p)
    /\ mine[w][p].producer > 0
    /\ ~mine[w][p].read
    /\ kafka[p].cursor > mine[w][p].seq
    /\ mine' = [mine EXCEPT ![w][p] = Nothing]
    /\ UNCHANGED <<row, kafka>>

------------------------------------------------------------------------------
(* apply_v1's fence, and the partition's row behind it: `records` decided, `rows` added to the journal. *)

Passes(w, p) ==
    /\ EpochChecked => row[p].epoch = mine[w][p].epoch
    /\ TurnChecked => row[p].turn = mine[w][p].turn /\ row[p].offset = mine[w][p].offset

Written(w, p, records, rows) ==
    row' = [row EXCEPT ![p].turn = @ + 1, ![p].offset = mine[w][p].offset + records, ![p].seq = @ + rows]

Apply(w, p, records, rows) ==
    /\ Active(w, p)
    /\ Passes(w, p)
    /\ Written(w, p, records, rows)
    /\ mine' = [mine EXCEPT ![w][p].turn = @ + 1, ![w][p].offset = @ + records, ![w][p].seq = @ + rows]
    /\ UNCHANGED kafka

(* It was written and the worker does not know: it must claim to learn of it. Its relay ends what it has. *)
ApplyUnheard(w, p, records, rows) ==
    /\ Active(w, p)
    /\ Passes(w, p)
    /\ Written(w, p, records, rows)
    /\ mine' = [mine EXCEPT ![w][p].epoch = 0]
    /\ UNCHANGED kafka

Fenced(w, p) ==
    /\ Active(w, p)
    /\ ~Passes(w, p)
    /\ mine' = [mine EXCEPT ![w][p].epoch = 0]
    /\ UNCHANGED <<row, kafka>>

------------------------------------------------------------------------------
(* The relay: one transaction of rows and cursor. Rows come from the outbox, so also a newer owner's count. *)

MayPublish(w, p, rows) ==
    /\ mine[w][p].producer > 0
    /\ mine[w][p].read
    /\ ProducerFenced => mine[w][p].producer = kafka[p].producer
    /\ mine[w][p].cursor < mine[w][p].seq
    /\ rows > 0
    /\ mine[w][p].cursor + rows <= row[p].seq

Committed(w, p, rows, unsent) ==
    LET next == mine[w][p].cursor + rows
        transaction == [first |-> mine[w][p].cursor, next |-> next, unsent |-> unsent]
    IN  kafka' = [kafka EXCEPT ![p].cursor = next, ![p].log = Append(@, transaction)]

Publish(w, p, rows, unsent) ==
    /\ MayPublish(w, p, rows)
    /\ AllSent => unsent = 0
    /\ Committed(w, p, rows, unsent)
    /\ mine' = [mine EXCEPT ![w][p].cursor = @ + rows]
    /\ UNCHANGED row

(* It was committed and the relay does not know: it throws the producer away, and the next start tells. *)
PublishUnheard(w, p, rows) ==
    /\ MayPublish(w, p, rows)
    /\ Committed(w, p, rows, 0)
    /\ mine' = [mine EXCEPT ![w][p].producer = 0, ![w][p].read = FALSE]
    /\ UNCHANGED row

------------------------------------------------------------------------------
(* What a reader under read_committed sees. *)

PublishedOnceInOrder ==
    \A p \in Parts :
        LET log == kafka[p].log IN
        /\ \A i \in DOMAIN log : log[i].unsent = 0
        /\ \A i \in DOMAIN log : log[i].first = IF i = 1 THEN 1 ELSE log[i - 1].next
        /\ kafka[p].cursor = IF log = <<>> THEN 1 ELSE log[Len(log)].next
=============================================================================
