"""One example of every message, telling one short story: an order is created and approved, a second approval refused.

The AsyncAPI document shows them, `docs/` quotes them, the tests validate them.
"""

from types import MappingProxyType

from contracts.envelope import JsonObject

_CREATE = "0b6f1c52-6d0e-4c55-9d5b-3a1f0c1e7a01"
_APPROVE = "0b6f1c52-6d0e-4c55-9d5b-3a1f0c1e7a02"
_EVENT = "5f0c7b36-93b5-5f5e-8f35-7d1f4f6f2c11"

PAYLOADS: MappingProxyType[str, JsonObject] = MappingProxyType(
    {
        "create_workflow": {
            "command_type": "create_workflow",
            "command_id": _CREATE,
            "workflow_id": "order-1042",
            "definition": "shop.order",
            "requested_by": "mara",
            "metadata": {"amount": 120},
        },
        "request_transition": {
            "command_type": "request_transition",
            "command_id": _APPROVE,
            "workflow_id": "order-1042",
            "target_state": "approved",
            "expected_version": 1,
            "requested_by": "mara",
            "reason": "within her limit",
            "occurred_at": "2026-11-21T09:30:00Z",
        },
        "recover_workflow": {
            "command_type": "recover_workflow",
            "command_id": "0b6f1c52-6d0e-4c55-9d5b-3a1f0c1e7a03",
            "workflow_id": "order-1043",
            "requested_by": "mara",
        },
        "update_metadata": {
            "command_type": "update_metadata",
            "command_id": "0b6f1c52-6d0e-4c55-9d5b-3a1f0c1e7a04",
            "workflow_id": "order-1042",
            "metadata": {"amount": 110, "coupon": None},
        },
        "migrate_workflow": {
            "command_type": "migrate_workflow",
            "command_id": "0b6f1c52-6d0e-4c55-9d5b-3a1f0c1e7a06",
            "workflow_id": "order-1044",
            "to_version": 2,
            "states": {"draft": "open"},
            "expected_version": 1,
            "requested_by": "mara",
            "reason": "drafts are open orders from now on",
        },
        "event": {
            "event_id": _EVENT,
            "sequence": 2,
            "workflow_id": "order-1042",
            "root_id": "order-1042",
            "event_type": "TRANSITION",
            "category": "state",
            "severity": "info",
            "message": "order-1042: draft → approved",
            "definition": "shop.order",
            "definition_version": 1,
            "from_state": "draft",
            "to_state": "approved",
            "transition": "approve",
            "version": 2,
            "timestamp": "2026-11-21T09:30:00.125000Z",
            "occurred_at": "2026-11-21T09:30:00Z",
            "command_id": _APPROVE,
            "actor": "mara",
            "reason": "within her limit",
        },
        "reply": {
            "command_id": _APPROVE,
            "workflow_id": "order-1042",
            "root_id": "order-1042",
            "outcome": "accepted",
            "events": [_EVENT],
            "from_state": "draft",
            "to_state": "approved",
            "state": "approved",
            "version": 2,
            "decided_at": "2026-11-21T09:30:00.125000Z",
        },
        "rejected_reply": {
            "command_id": "0b6f1c52-6d0e-4c55-9d5b-3a1f0c1e7a05",
            "workflow_id": "order-1042",
            "root_id": "order-1042",
            "outcome": "rejected",
            "state": "approved",
            "version": 2,
            "decided_at": "2026-11-21T09:31:00Z",
            "rejection": {
                "code": "INVALID_TRANSITION",
                "status": 400,
                "message": "order-1042 is approved: no transition leads from there to approved",
                "allowed": [{"transition": "ship", "target_state": "shipped", "guarded": False}],
            },
        },
        "dead_letter": {
            "topic": "turnstile.commands",
            "partition": 3,
            "offset": 17,
            "broker_time": "2026-11-21T09:32:00Z",
            "reason": "NOT_JSON",
            "message": "the value is not JSON",
            "key": "b3JkZXItMTA0Mg==",
            "value": "bm90IGpzb24=",
            "value_length": 8,
            "value_sha256": "7ccfa1fbf3940e6f0c0375d87c0f9235a50514e14cb427bdfaf5077987b26ccf",
        },
        "tick": {
            "partition": 3,
            "time": "2026-11-21T09:33:00Z",
            "commands_end_offset": 18,
            "emitter": "worker-1",
        },
    }
)

HEADERS: JsonObject = {
    "ce_specversion": "1.0",
    "ce_id": _EVENT,
    "ce_type": "TRANSITION",
    "ce_source": "turnstile",
    "ce_subject": "order-1042",
    "ce_time": "2026-11-21T09:30:00.125000Z",
    "content-type": "application/json",
}
