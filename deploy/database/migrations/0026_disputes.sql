-- Disputes about lines of settlement: a case, and its steps, which are only added to. How it stands follows from both.

CREATE TABLE settlement.dispute (
    dispute_no integer PRIMARY KEY CHECK (dispute_no > 0),
    part smallint NOT NULL,
    -- The order whose line is disputed, and the cycle of that line; 0 where no order is.
    order_seq bigint NOT NULL CHECK (order_seq >= 0),
    cycle_no integer NOT NULL CHECK ((cycle_no = 0) = (order_seq = 0)),
    issuer integer NOT NULL CHECK (issuer > 0),
    acceptor integer NOT NULL CHECK (acceptor > 0 AND acceptor <> issuer),
    opener integer NOT NULL CHECK (opener = 0 OR opener = issuer OR opener = acceptor),
    -- The match of reconciliation that it came from, if any.
    match_no integer REFERENCES settlement.match,
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 2000),
    who text NOT NULL CHECK (who <> ''),
    opened_at timestamptz NOT NULL,
    answer_due_at timestamptz NOT NULL CHECK (answer_due_at >= opened_at),
    deadline timestamptz NOT NULL CHECK (deadline >= answer_due_at),
    key uuid NOT NULL,
    body bytea NOT NULL CHECK (length(body) BETWEEN 16 AND 32),
    CONSTRAINT dispute_key UNIQUE (key, opener),
    CONSTRAINT dispute_claims CHECK (
        (0 <= fee_cu AND fee_cu <= value_cu AND value_cu <= debit_cu AND value_cu > 0)
        OR (debit_cu <= 0 AND value_cu <= 0 AND fee_cu <= 0 AND debit_cu + value_cu + fee_cu < 0)
    )
);
CREATE INDEX dispute_order ON settlement.dispute (order_seq, part) WHERE order_seq > 0;
CREATE INDEX dispute_issuer ON settlement.dispute (issuer, dispute_no);
CREATE INDEX dispute_acceptor ON settlement.dispute (acceptor, dispute_no);

CREATE TABLE settlement.dispute_step (
    dispute_no integer NOT NULL REFERENCES settlement.dispute,
    step_no integer NOT NULL CHECK (step_no > 0),
    step text NOT NULL CHECK (step IN ('answer', 'evidence', 'accept', 'reject', 'withdraw')),
    party integer NOT NULL CHECK (party >= 0),
    who text NOT NULL CHECK (who <> ''),
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 2000),
    -- A file of evidence, which its owner keeps: digest and length.
    file_sha256 bytea CHECK (length(file_sha256) = 32),
    file_bytes bigint CHECK (file_bytes BETWEEN 0 AND 100000000),
    -- What an acceptance has booked, and the entry of the trail that asks for it.
    debit_cu bigint NOT NULL DEFAULT 0,
    value_cu bigint NOT NULL DEFAULT 0,
    fee_cu bigint NOT NULL DEFAULT 0,
    asked bytea CHECK (length(asked) = 16),
    at timestamptz NOT NULL,
    key uuid NOT NULL,
    body bytea NOT NULL CHECK (length(body) BETWEEN 16 AND 32),
    PRIMARY KEY (dispute_no, step_no),
    CONSTRAINT dispute_step_key UNIQUE (key, party),
    CHECK ((file_sha256 IS NULL) = (file_bytes IS NULL)),
    CHECK ((step IN ('accept', 'reject')) = (asked IS NOT NULL)),
    CHECK (step = 'accept' OR (debit_cu = 0 AND value_cu = 0 AND fee_cu = 0))
);
-- A case ends once.
CREATE UNIQUE INDEX dispute_ends_once ON settlement.dispute_step (dispute_no)
WHERE step IN ('accept', 'reject', 'withdraw');

GRANT SELECT, INSERT ON settlement.dispute, settlement.dispute_step TO tongdui_app;
