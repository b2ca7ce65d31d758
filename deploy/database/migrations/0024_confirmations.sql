-- What merchants say about batches, in documents that they signed. An entry is never changed; a later one stands beside it.

CREATE TABLE settlement.confirmation (
    confirmation_no bigint PRIMARY KEY CHECK (confirmation_no > 0),
    cycle_no integer NOT NULL REFERENCES settlement.batch,
    merchant_no integer NOT NULL REFERENCES settlement.merchant,
    verdict text NOT NULL CHECK (verdict IN ('confirmed', 'objected')),
    reason text NOT NULL CHECK (length(reason) <= 500 AND (verdict = 'confirmed' OR reason <> '')),
    orders integer NOT NULL CHECK (orders >= 0),
    received_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    -- The signed document (JWS), and the key that signed it, so that both can be shown to anybody.
    document text NOT NULL,
    document_sha256 bytea NOT NULL UNIQUE CHECK (length(document_sha256) = 32),
    public_key bytea NOT NULL CHECK (length(public_key) = 32)
);
CREATE INDEX confirmation_of ON settlement.confirmation (cycle_no, merchant_no, confirmation_no);

GRANT SELECT, INSERT ON settlement.confirmation TO tongdui_app;
