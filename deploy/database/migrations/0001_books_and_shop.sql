-- The clearing house's books (schema settlement) and the shop window (schema exchange).
-- Runs as the owner; the program itself works under the role tongdui_app, which may add to the journal
-- and never change it.

CREATE SCHEMA settlement;
CREATE SCHEMA exchange;

-- Reference data -----------------------------------------------------------------------------------

CREATE TABLE settlement.merchant (
    merchant_no integer PRIMARY KEY CHECK (merchant_no > 0),
    code text NOT NULL UNIQUE CHECK (code ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$'),
    name text NOT NULL,
    registered_at timestamptz NOT NULL
);

-- One row for each partition: the fence of its writer, and where its chain of flushes ends.
CREATE TABLE settlement.partition (
    part smallint PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    writer uuid,
    flush_no bigint NOT NULL CHECK (flush_no >= 0),
    last_seq bigint NOT NULL CHECK (last_seq >= 0),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    clock timestamptz NOT NULL,
    clock_source text NOT NULL CHECK (clock_source IN ('wall', 'caller')),
    cycle_no integer NOT NULL CHECK (cycle_no >= 0)
) WITH (fillfactor = 20);

-- The journal --------------------------------------------------------------------------------------

-- The order of the columns is the order of an event's canonical bytes: it never changes, and a new
-- column goes to the end. Wide columns stand first so that no row pays for padding.
CREATE TABLE settlement.event (
    seq bigint NOT NULL,
    order_seq bigint NOT NULL,
    at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    member_no bigint NOT NULL,
    units bigint NOT NULL,
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    credited_units bigint NOT NULL,
    lot_no bigint NOT NULL,
    key uuid NOT NULL,
    body uuid NOT NULL,
    cycle_no integer NOT NULL,
    caller integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    rate_no integer NOT NULL,
    part smallint NOT NULL,
    kind smallint NOT NULL,
    step smallint NOT NULL,
    reason smallint NOT NULL,
    reference text NOT NULL,
    -- The selective column leads in every index: on a table without statistics yet the planner cannot
    -- know that `part` selects everything, and would walk an index that begins with it.
    PRIMARY KEY (seq, part),
    CONSTRAINT event_key UNIQUE (key, caller, step, part),
    CONSTRAINT event_seq_positive CHECK (seq > 0),
    CONSTRAINT event_amounts_add_up CHECK (
        kind NOT IN (1, 3)
        OR (
            units > 0 AND 0 <= fee_cu AND fee_cu <= value_cu AND value_cu <= debit_cu
            AND debit_cu > 0 AND debit_cu < 1000000000000000 AND issuer <> acceptor
        )
    )
);
-- Only the ends of two-phase orders stand in this index: an order that clears at once is its own first event.
CREATE UNIQUE INDEX event_end ON settlement.event (order_seq, part) WHERE kind IN (3, 4, 5) AND order_seq <> seq;

CREATE TABLE settlement.flush (
    part smallint NOT NULL,
    flush_no bigint NOT NULL,
    epoch bigint NOT NULL,
    first_seq bigint NOT NULL,
    events integer NOT NULL CHECK (events > 0),
    at timestamptz NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (flush_no, part)
);

-- Projections: each can be rebuilt from the journal ---------------------------------------------------

CREATE TABLE settlement.cycle (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    cycle_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'closed', 'settled')),
    opened_at timestamptz NOT NULL,
    cut_off_at timestamptz,
    closed_at timestamptz,
    settled_at timestamptz,
    first_seq bigint NOT NULL,
    last_seq bigint,
    PRIMARY KEY (part, cycle_no),
    UNIQUE (part, cycle_id),
    CONSTRAINT cycle_state_and_times_agree CHECK (
        (state = 'open') = (closed_at IS NULL) AND (state = 'settled') = (settled_at IS NOT NULL)
        AND (closed_at IS NULL) = (last_seq IS NULL)
    )
);

CREATE TABLE settlement.account (
    part smallint NOT NULL,
    merchant_no integer NOT NULL,
    cap_cu bigint NOT NULL CHECK (cap_cu >= 0),
    collateral_cu bigint NOT NULL CHECK (collateral_cu >= 0),
    held_cu bigint NOT NULL CHECK (held_cu >= 0),
    PRIMARY KEY (part, merchant_no)
) WITH (fillfactor = 20);

CREATE TABLE settlement.position (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    net_cu bigint NOT NULL,
    PRIMARY KEY (part, cycle_no, merchant_no)
) WITH (fillfactor = 20);

-- Bilateral gross: what one issuer owes one acceptor for the cleared orders of one cycle.
CREATE TABLE settlement.obligation (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    orders bigint NOT NULL CHECK (orders > 0),
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    PRIMARY KEY (part, cycle_no, issuer, acceptor),
    CHECK (fee_cu <= value_cu AND value_cu <= debit_cu)
) WITH (fillfactor = 20);

CREATE TABLE settlement.hold (
    part smallint NOT NULL,
    order_seq bigint NOT NULL,
    issuer integer NOT NULL,
    debit_cu bigint NOT NULL CHECK (debit_cu > 0),
    due_at timestamptz NOT NULL,
    PRIMARY KEY (order_seq, part)
);

-- Batches: one signed package for each closed cycle ----------------------------------------------------

CREATE TABLE settlement.batch (
    cycle_no integer PRIMARY KEY,
    sequence integer NOT NULL UNIQUE CHECK (sequence > 0),
    cycle_id text NOT NULL UNIQUE,
    manifest bytea NOT NULL,
    previous_sha256 bytea NOT NULL CHECK (length(previous_sha256) = 32),
    manifest_sha256 bytea NOT NULL UNIQUE CHECK (length(manifest_sha256) = 32),
    cut_at timestamptz NOT NULL
);

-- Payments are in whole fen; what is left of a net figure is carried to the party's next instruction.
CREATE TABLE settlement.instruction (
    cycle_no integer NOT NULL REFERENCES settlement.batch (cycle_no),
    merchant_no integer NOT NULL,
    net_cu bigint NOT NULL,
    carry_before_cu bigint NOT NULL CHECK (abs(carry_before_cu) < 100),
    pay_fen bigint NOT NULL,
    carry_after_cu bigint NOT NULL CHECK (abs(carry_after_cu) < 100),
    PRIMARY KEY (cycle_no, merchant_no),
    CHECK (merchant_no < 0 OR carry_before_cu + net_cu = pay_fen * 100 + carry_after_cu)
);

CREATE TABLE settlement.calendar (
    calendar_no integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    effective_at timestamptz NOT NULL UNIQUE,
    terms jsonb NOT NULL
);

-- The double entry of every order that cleared, one row for each leg, derived from its event.
CREATE VIEW settlement.posting AS
SELECT e.part, e.seq, e.cycle_no, e.at, leg.merchant_no, leg.cu
FROM settlement.event AS e
CROSS JOIN LATERAL (
    VALUES
        (e.issuer, - e.debit_cu),
        (e.acceptor, e.value_cu - e.fee_cu),
        (-1, e.fee_cu),
        (-2, e.debit_cu - e.value_cu)
) AS leg (merchant_no, cu)
WHERE e.kind IN (3, 6);

-- The shop window ---------------------------------------------------------------------------------------

CREATE TABLE exchange.programme (
    merchant_no integer PRIMARY KEY REFERENCES settlement.merchant (merchant_no),
    hosted boolean NOT NULL,
    unit text NOT NULL,
    scale smallint NOT NULL CHECK (scale BETWEEN 0 AND 9),
    earn_num bigint NOT NULL CHECK (earn_num >= 0),
    earn_den bigint NOT NULL CHECK (earn_den > 0),
    valid_days integer NOT NULL CHECK (valid_days > 0),
    units_min bigint NOT NULL CHECK (units_min > 0),
    units_max bigint NOT NULL CHECK (units_max >= units_min)
);

CREATE TABLE exchange.rate (
    rate_no integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    merchant_no integer NOT NULL REFERENCES exchange.programme (merchant_no),
    side text NOT NULL CHECK (side IN ('spend', 'issue')),
    num bigint NOT NULL CHECK (num > 0),
    den bigint NOT NULL CHECK (den > 0),
    effective_at timestamptz NOT NULL,
    UNIQUE (merchant_no, side, effective_at)
);

CREATE TABLE exchange.tariff (
    effective_at timestamptz PRIMARY KEY,
    fee_bps integer NOT NULL CHECK (fee_bps BETWEEN 0 AND 10000)
);

CREATE TABLE exchange.member (
    member_no bigint PRIMARY KEY CHECK (member_no > 0),
    reference text NOT NULL UNIQUE,
    enrolled_at timestamptz NOT NULL
);

-- Points that expire together, as they were made. What is left of them is what no event has taken.
CREATE TABLE exchange.lot (
    lot_no bigint NOT NULL,
    member_no bigint NOT NULL,
    earned_units bigint NOT NULL CHECK (earned_units > 0),
    expires_at timestamptz NOT NULL,
    made_seq bigint NOT NULL,
    merchant_no integer NOT NULL,
    part smallint NOT NULL,
    PRIMARY KEY (lot_no, part)
);
CREATE INDEX lot_of_member ON exchange.lot (member_no, part);
CREATE INDEX lot_by_expiry ON exchange.lot (expires_at, part);

-- Which event took how many units of a lot, and what it left: where spent points came from. Rows are
-- added and never changed: that costs a third of updating the lot, and a reversal needs them.
CREATE TABLE exchange.lot_use (
    lot_no bigint NOT NULL,
    seq bigint NOT NULL,
    units bigint NOT NULL CHECK (units > 0),
    left_units bigint NOT NULL CHECK (left_units >= 0),
    part smallint NOT NULL,
    PRIMARY KEY (lot_no, seq, part)
);

CREATE VIEW exchange.lot_balance AS
SELECT l.part, l.lot_no, l.member_no, l.merchant_no, l.earned_units,
       coalesce(last_use.left_units, l.earned_units) AS units, l.expires_at, l.made_seq
FROM exchange.lot AS l
LEFT JOIN LATERAL (
    SELECT u.left_units FROM exchange.lot_use AS u
    WHERE u.lot_no = l.lot_no AND u.part = l.part
    ORDER BY u.seq DESC
    LIMIT 1
) AS last_use ON true;

-- How far the expiry run has come: what expired up to here has lapsed.
CREATE TABLE exchange.expiry_run (
    part smallint PRIMARY KEY,
    through timestamptz NOT NULL
);

CREATE TABLE exchange.api_key (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    merchant_no integer NOT NULL,
    label text NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- What the program may do --------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA settlement, exchange TO tongdui_app;
GRANT SELECT ON ALL TABLES IN SCHEMA settlement, exchange TO tongdui_app;
GRANT INSERT ON settlement.event, settlement.flush, settlement.batch, settlement.instruction,
    exchange.lot, exchange.lot_use TO tongdui_app;
GRANT INSERT, UPDATE ON settlement.partition, settlement.cycle, settlement.account,
    settlement.position, settlement.obligation, exchange.expiry_run TO tongdui_app;
GRANT INSERT, DELETE ON settlement.hold TO tongdui_app;
GRANT INSERT ON settlement.merchant, settlement.calendar, exchange.programme, exchange.rate,
    exchange.tariff, exchange.member TO tongdui_app;
GRANT INSERT, UPDATE (revoked_at) ON exchange.api_key TO tongdui_app;
