-- Reversals: an event of kind 20 takes a cleared order back, in part or whole. It names the order and
-- carries the figures that are taken back as negative numbers, so postings follow from it like any other.

-- An order has few reversals or none; only they stand in this index.
CREATE INDEX event_reversal ON settlement.event (order_seq, part) WHERE kind = 20;

ALTER TABLE settlement.event ADD CONSTRAINT event_reversal_takes_back CHECK (
    kind <> 20
    OR (
        units < 0 AND debit_cu <= 0 AND value_cu <= 0 AND fee_cu <= 0 AND credited_units <= 0
        AND debit_cu > -1000000000000000 AND issuer <> acceptor AND order_seq > 0 AND order_seq < seq
    )
) NOT VALID; -- There is none before this.

-- Bilateral gross of reversals: what was taken back in one cycle of what one issuer owed one acceptor.
CREATE TABLE settlement.reversed_obligation (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    reversals bigint NOT NULL CHECK (reversals > 0),
    debit_cu bigint NOT NULL CHECK (debit_cu >= 0),
    value_cu bigint NOT NULL CHECK (value_cu >= 0),
    fee_cu bigint NOT NULL CHECK (fee_cu >= 0),
    PRIMARY KEY (part, cycle_no, issuer, acceptor),
    CHECK (issuer <> acceptor)
) WITH (fillfactor = 20);

CREATE OR REPLACE VIEW settlement.posting AS
SELECT e.part, e.seq, e.cycle_no, e.at, leg.merchant_no, leg.cu
FROM settlement.event AS e
CROSS JOIN LATERAL (
    VALUES
        (e.issuer, - e.debit_cu),
        (e.acceptor, e.value_cu - e.fee_cu),
        (-1, e.fee_cu),
        (-2, e.debit_cu - e.value_cu)
) AS leg (merchant_no, cu)
WHERE e.kind IN (3, 6, 20);

GRANT SELECT, INSERT, UPDATE ON settlement.reversed_obligation TO tongdui_app;
