-- The audit trail: every change that a person or a key makes, in a chain of digests of its own.

CREATE TABLE settlement.trail (
    entry_no bigint PRIMARY KEY CHECK (entry_no > 0),
    at timestamptz NOT NULL,
    who text NOT NULL CHECK (who <> ''),
    second text NOT NULL,
    action text NOT NULL CHECK (action ~ '^[a-z_]+\.[a-z_]+$'),
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    why text NOT NULL CHECK (length(why) <= 500),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    CONSTRAINT trail_two_people CHECK (second <> who)
);
CREATE INDEX trail_of_subject ON settlement.trail (subject, action);

-- Where the journal stood when the trail began: what came before has no entry.
CREATE TABLE settlement.trail_base (
    part smallint PRIMARY KEY,
    last_seq bigint NOT NULL
);
INSERT INTO settlement.trail_base (part, last_seq) SELECT part, last_seq FROM settlement.partition;

GRANT SELECT, INSERT ON settlement.trail TO tongdui_app;
GRANT SELECT ON settlement.trail_base TO tongdui_app;
