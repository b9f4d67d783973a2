------------------------------- MODULE Models -------------------------------
(* The finite models: which commands are in the logs. Workers, bounds and what is left out are the .cfg's. *)

EXTENDS Turnstile, TLC

CONSTANTS w1, w2, w3

Yes == {"allow"}
Create(id, workflow) == 
    [creates |-> TRUE, id |-> id, workflow |-> workflow, to |-> "new", expects |-> 0, verdicts |-> Yes]
Move(id, workflow, to, expects, verdicts) ==
    [creates |-> FALSE, id |-> id, workflow |-> workflow, to |-> to, expects |-> expects, verdicts |-> verdicts]

(* A guard that allows, or cannot be asked; the command comes twice. *)
OneLog == (1 :> <<Create(1, "a"),
                  Move(2, "a", "busy", 0, {"allow", "unavailable"}),
                  Move(2, "a", "busy", 0, {"allow"})>>)

(* A command comes again after the workflow has moved on and back. *)
TwiceLog == (1 :> <<Create(1, "a"), Move(2, "a", "busy", 0, Yes), Move(3, "a", "new", 0, Yes),
                    Move(2, "a", "busy", 0, {"allow", "deny"})>>)

(* Two commands expect the same version; the second would fit the state, too. *)
VersionLog == (1 :> <<Create(1, "a"), Move(2, "a", "busy", 1, Yes), Move(3, "a", "done", 1, Yes)>>)

(* A command comes after the end. *)
TerminalLog == (1 :> <<Create(1, "a"), Move(2, "a", "done", 0, Yes), Move(3, "a", "busy", 0, Yes)>>)

(* One id under two roots, more workflows than may be open, a place that is freed. *)
TwoLogs == (1 :> <<Create(1, "a"), Create(2, "b"), Move(3, "a", "done", 0, Yes)>>) @@ (2 :> <<Create(4, "a")>>)

Symmetry == Permutations(Workers)
=============================================================================
