-- Compensations: the merchant at fault may oblige itself, so an adjustment without an order may be its own.

ALTER TABLE settlement.event DROP CONSTRAINT event_adjustment_corrects;
ALTER TABLE settlement.event ADD CONSTRAINT event_adjustment_corrects CHECK (
    kind <> 6
    OR (
        units = 0 AND credited_units = 0 AND lot_no = 0 AND member_no = 0
        AND (caller = 0 OR (caller = issuer AND order_seq = 0 AND value_cu > 0))
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
) NOT VALID; -- What there is keeps the stricter rule.
