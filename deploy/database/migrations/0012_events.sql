-- Events for merchants: endpoints of webhooks, what they did not take, and notices that follow from figures.
-- The events themselves are rows of settlement.event; here stands only how far each endpoint has been told.

CREATE TABLE exchange.endpoint (
    endpoint_no integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    -- 0 for the house.
    merchant_no integer NOT NULL CHECK (merchant_no >= 0),
    url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    types text[] NOT NULL,
    created_at timestamptz NOT NULL,
    -- Up to here everything was delivered or given up.
    seq bigint NOT NULL CHECK (seq >= 0),
    notice_no bigint NOT NULL CHECK (notice_no >= 0),
    -- Failed attempts at the event that is next, and when it may be tried again.
    attempts integer NOT NULL CHECK (attempts >= 0),
    next_at timestamptz NOT NULL,
    last_error text NOT NULL,
    -- The event before was given up, and none was delivered since.
    silent boolean NOT NULL,
    replay_wanted boolean NOT NULL,
    paused_at timestamptz,
    removed_at timestamptz,
    worker uuid,
    claim_no integer NOT NULL CHECK (claim_no >= 0),
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 20);
CREATE INDEX endpoint_of_merchant ON exchange.endpoint (merchant_no) WHERE removed_at IS NULL;

CREATE TABLE exchange.dead_letter (
    endpoint_no integer NOT NULL REFERENCES exchange.endpoint (endpoint_no),
    letter_no bigint GENERATED ALWAYS AS IDENTITY,
    event_id text NOT NULL,
    given_up_at timestamptz NOT NULL,
    attempts integer NOT NULL CHECK (attempts > 0),
    last_error text NOT NULL,
    replay_wanted boolean NOT NULL,
    delivered_at timestamptz,
    PRIMARY KEY (endpoint_no, letter_no),
    UNIQUE (endpoint_no, event_id)
);

-- What follows from figures and not from one event; written once, in the order of its numbers.
CREATE TABLE exchange.notice (
    notice_no bigint PRIMARY KEY CHECK (notice_no > 0),
    event_type text NOT NULL,
    -- 0 for everybody.
    merchant_no integer NOT NULL,
    at timestamptz NOT NULL,
    facts jsonb NOT NULL
);
CREATE INDEX notice_of_merchant ON exchange.notice (merchant_no, event_type, notice_no);

GRANT SELECT, INSERT ON exchange.endpoint, exchange.dead_letter, exchange.notice TO tongdui_app;
GRANT UPDATE (seq, notice_no, attempts, next_at, last_error, silent, replay_wanted, paused_at, removed_at, worker,
              claim_no, lease_until) ON exchange.endpoint TO tongdui_app;
GRANT UPDATE (attempts, last_error, replay_wanted, delivered_at) ON exchange.dead_letter TO tongdui_app;
