package turnstile

# Many questions at once: as many verdicts, in their order. A policy without a result denies.
verdicts := [verdict | some question in input.questions; verdict := judged(question)]

judged(question) := verdict if {
	verdict := data.shop[trim_prefix(question.policy, "shop/")] with input as question.input
} else := false
