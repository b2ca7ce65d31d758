-- Orders whose issuer or acceptor keeps points in a system of its own: which system, who the member is there,
-- and the journey of each order with every call and every answer.

-- How a merchant's own system is reached. The newest row of a merchant counts; an empty folder disconnects it.
CREATE TABLE exchange.connection (
    merchant_no integer NOT NULL REFERENCES exchange.programme (merchant_no),
    connection_no integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    folder text NOT NULL,
    settings jsonb NOT NULL,
    certificate_digest bytea CHECK (length(certificate_digest) = 32),
    connected_at timestamptz NOT NULL
);

-- A member's id at a merchant's own system, once the merchant has authenticated the member.
CREATE TABLE exchange.member_link (
    member_no bigint NOT NULL REFERENCES exchange.member (member_no),
    merchant_no integer NOT NULL REFERENCES exchange.programme (merchant_no),
    merchant_member text NOT NULL CHECK (length(merchant_member) BETWEEN 1 AND 128),
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (member_no, merchant_no)
);

-- Processes that drive journeys. A lease that has run out is removed by whoever meets it, and cannot be renewed.
CREATE TABLE exchange.order_worker (
    worker uuid PRIMARY KEY,
    entered_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 20);

CREATE TABLE exchange.journey (
    journey_no bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key uuid NOT NULL,
    body uuid NOT NULL,
    caller integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    member_no bigint NOT NULL,
    units bigint NOT NULL CHECK (units > 0),
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    credited_units bigint NOT NULL CHECK (credited_units >= 0),
    rate_no integer NOT NULL,
    hold_us bigint NOT NULL CHECK (hold_us > 0),
    occurred_at timestamptz,
    reference text NOT NULL,
    -- NULL for an order of which the writer need not know the member's rules; empty for one without a code.
    code bytea,
    code_until timestamptz,
    issuer_member text NOT NULL,
    acceptor_member text NOT NULL,
    wanted_at timestamptz NOT NULL,
    decide_by timestamptz NOT NULL,
    worker uuid NOT NULL,
    claim_no integer NOT NULL CHECK (claim_no > 0),
    state smallint NOT NULL,
    verdict smallint NOT NULL CHECK (verdict IN (0, 1, 2)),
    reason smallint NOT NULL,
    order_seq bigint NOT NULL,
    accepted_at timestamptz,
    stuck_since timestamptz,
    stuck_why text NOT NULL,
    ended_at timestamptz,
    CONSTRAINT journey_key UNIQUE (key, caller),
    CONSTRAINT journey_end_and_time_agree CHECK ((state >= 30) = (ended_at IS NOT NULL)),
    CONSTRAINT journey_order_and_time_agree CHECK ((order_seq > 0) = (accepted_at IS NOT NULL))
) WITH (fillfactor = 60);
CREATE INDEX journey_open ON exchange.journey (worker) WHERE ended_at IS NULL;
CREATE INDEX journey_stuck ON exchange.journey (stuck_since) WHERE stuck_since IS NOT NULL;

-- What was going to be asked of a merchant's system, and what was answered. Lines are only added.
CREATE TABLE exchange.journey_line (
    journey_no bigint NOT NULL REFERENCES exchange.journey (journey_no),
    line_no bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    units bigint,
    step "char" NOT NULL CHECK (step IN ('H', 'C', 'R', 'K', 'V')),
    source smallint NOT NULL CHECK (source BETWEEN 0 AND 4),
    outcome text CHECK (outcome IN ('done', 'refused', 'unknown')),
    reason smallint NOT NULL,
    number text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (journey_no, line_no),
    CONSTRAINT journey_line_intent_has_no_outcome CHECK ((source = 0) = (outcome IS NULL))
);

GRANT SELECT, INSERT ON exchange.connection, exchange.journey_line TO tongdui_app;
GRANT SELECT, INSERT, UPDATE ON exchange.member_link TO tongdui_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON exchange.order_worker TO tongdui_app;
GRANT SELECT, INSERT ON exchange.journey TO tongdui_app;
GRANT UPDATE (worker, claim_no, state, verdict, reason, order_seq, accepted_at, stuck_since, stuck_why, ended_at)
    ON exchange.journey TO tongdui_app;
