-- Units can come back into the lot that they came from: such a use has fewer than no units.
ALTER TABLE exchange.lot_use DROP CONSTRAINT lot_use_units_check;
ALTER TABLE exchange.lot_use ADD CONSTRAINT lot_use_units_check CHECK (units <> 0);

-- What a call took or gave at a hosted programme is undone once.
CREATE UNIQUE INDEX event_undone ON settlement.event (order_seq, part) WHERE kind IN (17, 19) AND order_seq > 0;

-- A programme's statement of one day.
CREATE INDEX event_of_calls ON settlement.event (issuer, at, part) WHERE kind IN (16, 17, 18, 19);
