------------------------------ MODULE Recorded ------------------------------
(* Recorded runs, held against Ownership.tla: the events of each in one order, each a step of that module or  *)
(* none. One is accepted if `next` can pass its end: then NotDone is violated. What turns decide is left out. *)

EXTENDS Ownership

CONSTANT Traces    \* sequences of events, written by tests/spec/validate.py

VARIABLES run, next

here == Traces[run][next]

(* What the worker was told must be what the model told it. *)
Said(field) == mine'[here.worker][here.part][field] = here[field]
(* What the worker asked for must be what the model's worker would ask for. *)
Asked(field) == mine[here.worker][here.part][field] = here[field]

Step ==
    \/ here.step = "claim" /\ Claim(here.worker, here.part)
         /\ Said("epoch") /\ Said("turn") /\ Said("offset") /\ Said("seq")
    \/ here.step = "claim unheard" /\ ClaimUnheard(here.worker, here.part)
    \/ here.step = "fence" /\ Fence(here.worker, here.part)
    \/ here.step = "cursor" /\ ReadCursor(here.worker, here.part) /\ Said("cursor")
    \/ here.step = "overtaken" /\ Overtaken(here.worker, here.part)
    \/ here.step = "apply" /\ Apply(here.worker, here.part, here.records, here.rows)
         /\ Asked("epoch") /\ Asked("turn") /\ Asked("offset") /\ Asked("seq")
    \/ here.step = "apply unheard" /\ ApplyUnheard(here.worker, here.part, here.records, here.rows)
         /\ Asked("epoch") /\ Asked("turn") /\ Asked("offset") /\ Asked("seq")
    \/ here.step = "fenced" /\ Fenced(here.worker, here.part)
         /\ Asked("epoch") /\ Asked("turn") /\ Asked("offset")
    \/ here.step = "publish" /\ Publish(here.worker, here.part, here.rows, 0) /\ Asked("cursor")
    \/ here.step = "publish unheard" /\ PublishUnheard(here.worker, here.part, here.rows) /\ Asked("cursor")
    \/ here.step = "crash" /\ Crash(here.worker)

InitRecorded == InitProtocol /\ run \in DOMAIN Traces /\ next = 1

NextRecorded == next <= Len(Traces[run]) /\ Step /\ next' = next + 1 /\ UNCHANGED run

SpecRecorded == InitRecorded /\ [][NextRecorded]_<<protocol, run, next>>

NotDone == next <= Len(Traces[run])
=============================================================================
