-- Arrangements: by which model, and in which cycles, a pair of merchants settles. The main one (0) is no row.

CREATE TABLE settlement.arrangement (
    part smallint NOT NULL,
    arrangement_no integer NOT NULL CHECK (arrangement_no > 0),
    code text NOT NULL CHECK (code ~ '^[a-z][a-z0-9-]{0,19}$' AND code <> 'main'),
    model text NOT NULL CHECK (model IN ('multilateral', 'bilateral')),
    PRIMARY KEY (part, arrangement_no),
    UNIQUE (part, code)
);

CREATE TABLE settlement.pair_arrangement (
    part smallint NOT NULL,
    merchant_a integer NOT NULL,
    merchant_b integer NOT NULL CHECK (merchant_a < merchant_b),
    arrangement_no integer NOT NULL,
    -- The one that the pair gets when its open cycle closes; null where none is coming.
    next_no integer CHECK (next_no <> arrangement_no),
    PRIMARY KEY (part, merchant_a, merchant_b)
);

ALTER TABLE settlement.cycle ADD COLUMN arrangement_no integer NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX cycle_one_open ON settlement.cycle (part, arrangement_no) WHERE state = 'open';

ALTER TABLE settlement.calendar ADD COLUMN arrangement text NOT NULL DEFAULT 'main';
ALTER TABLE settlement.calendar DROP CONSTRAINT calendar_effective_at_key;
ALTER TABLE settlement.calendar ADD CONSTRAINT calendar_effective_at_key UNIQUE (arrangement, effective_at);

GRANT SELECT, INSERT ON settlement.arrangement TO tongdui_app;
GRANT SELECT, INSERT, UPDATE ON settlement.pair_arrangement TO tongdui_app;
