-- A pinned hold: the credit may have been sent to the acceptor, so the hold neither expires nor is
-- released without proof. The row names the event that says so.
ALTER TABLE settlement.hold ADD COLUMN pinned_seq bigint;
ALTER TABLE settlement.hold ADD CONSTRAINT hold_pinned_later CHECK (pinned_seq > order_seq);
GRANT UPDATE (pinned_seq) ON settlement.hold TO tongdui_app;
