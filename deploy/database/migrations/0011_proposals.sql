-- Four eyes: changes that one person proposes and another one approves.

-- There is one row from the moment on when two people could approve each other's changes, and for good.
CREATE TABLE settlement.four_eyes (
    one boolean PRIMARY KEY CHECK (one),
    since timestamptz NOT NULL
);

CREATE TABLE exchange.proposal (
    proposal_no integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    action text NOT NULL,
    subject text NOT NULL,
    terms jsonb NOT NULL,
    before jsonb,
    why text NOT NULL CHECK (length(why) BETWEEN 1 AND 500),
    maker text NOT NULL,
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > made_at),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    UNIQUE (proposal_no, maker)
);

-- A proposal is decided once, and never approved by its maker.
CREATE TABLE exchange.proposal_decision (
    proposal_no integer PRIMARY KEY,
    maker text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approved', 'rejected')),
    decider text NOT NULL,
    decided_at timestamptz NOT NULL,
    why text NOT NULL CHECK (length(why) <= 500),
    -- First bytes of the digest of the trail's entry that carries it out.
    body bytea CHECK (length(body) = 16),
    FOREIGN KEY (proposal_no, maker) REFERENCES exchange.proposal (proposal_no, maker),
    CONSTRAINT proposal_decision_two_people CHECK (decision <> 'approved' OR decider <> maker),
    CONSTRAINT proposal_decision_has_entry CHECK ((decision = 'approved') = (body IS NOT NULL))
);

-- What was approved and has been carried out.
CREATE TABLE exchange.proposal_done (
    proposal_no integer PRIMARY KEY REFERENCES exchange.proposal_decision (proposal_no),
    done_at timestamptz NOT NULL,
    refused text NOT NULL
);

GRANT SELECT, INSERT ON settlement.four_eyes, exchange.proposal, exchange.proposal_decision, exchange.proposal_done
    TO tongdui_app;
