-- Adjustments: an event of kind 6 corrects what one merchant owes another, and names the order that it corrects, if
-- any. Its figures are owed like an order's, or taken back like a reversal's; postings follow from it like any other.

-- An order has few adjustments or none; only they stand in this index.
CREATE INDEX event_adjustment ON settlement.event (order_seq, part) WHERE kind = 6;

ALTER TABLE settlement.event ADD CONSTRAINT event_adjustment_corrects CHECK (
    kind <> 6
    OR (
        units = 0 AND credited_units = 0 AND lot_no = 0 AND member_no = 0 AND caller = 0
        AND issuer <> acceptor AND order_seq >= 0 AND order_seq < seq
        AND (
            (
                0 <= fee_cu AND fee_cu <= value_cu AND value_cu <= debit_cu
                AND value_cu > 0 AND debit_cu < 1000000000000000
            )
            OR (
                debit_cu <= 0 AND value_cu <= 0 AND fee_cu <= 0 AND debit_cu + value_cu + fee_cu < 0
                AND least(debit_cu, value_cu, fee_cu) > -1000000000000000
                AND (order_seq > 0 OR (debit_cu <= value_cu AND value_cu <= fee_cu))
            )
        )
    )
) NOT VALID; -- There is none before this.
