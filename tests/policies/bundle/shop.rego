package shop

# A full verdict: who pays too much learns why.
pay := {"allow": true} if {
	not too_much
} else := {
	"allow": false,
	"reason": sprintf("%v is more than %v may pay", [input.command.context.amount, input.actor.name]),
	"values": {"command.context.amount": input.command.context.amount, "limit": limit},
}

limit := object.get({"ann": 100, "bob": 1000}, input.actor.name, 0)

too_much if input.command.context.amount > limit

# A plain boolean, undefined where it does not hold.
open if input.workflow.state == "NEW"

# No verdict, whatever it looks like.
odd := "true"

# OPA itself answers with status 500: two values for one rule.
torn := true if input.workflow.state == "NEW"

torn := false if input.workflow.state == "NEW"
