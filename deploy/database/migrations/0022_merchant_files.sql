-- Merchants' own files of a batch's lines, and which of their lines are which of ours.

CREATE TABLE settlement.merchant_file (
    file_no integer PRIMARY KEY CHECK (file_no > 0),
    cycle_no integer NOT NULL REFERENCES settlement.batch,
    merchant_no integer NOT NULL REFERENCES settlement.merchant,
    name text NOT NULL,
    lines integer NOT NULL CHECK (lines > 0),
    amount_cu bigint NOT NULL,
    -- Which of our figures and instants the lines are held against; the same in all files of a merchant and batch.
    figure text NOT NULL CHECK (figure IN ('net', 'gross')),
    clock text NOT NULL CHECK (clock IN ('till', 'cleared')),
    rounding text NOT NULL CHECK (rounding IN ('none', 'toward_zero', 'half_away')),
    content_sha256 bytea NOT NULL CHECK (length(content_sha256) = 32),
    imported_at timestamptz NOT NULL,
    -- When a person said that it does not count.
    withdrawn_at timestamptz CHECK (withdrawn_at >= imported_at)
);
CREATE UNIQUE INDEX merchant_file_once ON settlement.merchant_file (cycle_no, merchant_no, content_sha256)
    WHERE withdrawn_at IS NULL;

CREATE TABLE settlement.merchant_line (
    file_no integer NOT NULL REFERENCES settlement.merchant_file,
    line_no integer NOT NULL CHECK (line_no > 0),
    place text NOT NULL,
    order_id text NOT NULL,
    reference text NOT NULL,
    day date NOT NULL,
    amount_cu bigint NOT NULL,
    units bigint CHECK (units >= 0),
    counterparty text NOT NULL,
    PRIMARY KEY (file_no, line_no)
);

-- Whose lines a match is of; null where it is one of payments and bank entries.
ALTER TABLE settlement.match
    ADD COLUMN cycle_no integer,
    ADD COLUMN merchant_no integer,
    ADD CONSTRAINT match_of_lines_or_payments CHECK ((cycle_no IS NULL) = (merchant_no IS NULL)),
    DROP CONSTRAINT match_difference_check,
    ADD CONSTRAINT match_difference_check CHECK (difference IN ('amount', 'sign', 'date', 'split', 'units'));
CREATE INDEX match_differing ON settlement.match (cycle_no, merchant_no)
    WHERE difference IS NOT NULL AND accepted_at IS NULL AND undone_at IS NULL;

-- Lines of the signed statement, by their number among the leaves of the cycle's tree.
CREATE TABLE settlement.match_leaf (
    match_no integer NOT NULL REFERENCES settlement.match,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    leaf_index bigint NOT NULL CHECK (leaf_index >= 0),
    holds boolean NOT NULL DEFAULT true,
    PRIMARY KEY (match_no, leaf_index)
);
CREATE UNIQUE INDEX match_leaf_once ON settlement.match_leaf (cycle_no, merchant_no, leaf_index) WHERE holds;

CREATE TABLE settlement.match_line (
    match_no integer NOT NULL REFERENCES settlement.match,
    file_no integer NOT NULL,
    line_no integer NOT NULL,
    holds boolean NOT NULL DEFAULT true,
    PRIMARY KEY (match_no, file_no, line_no),
    FOREIGN KEY (file_no, line_no) REFERENCES settlement.merchant_line
);
CREATE UNIQUE INDEX match_line_once ON settlement.match_line (file_no, line_no) WHERE holds;

GRANT SELECT, INSERT, UPDATE (withdrawn_at) ON settlement.merchant_file TO tongdui_app;
GRANT SELECT, INSERT ON settlement.merchant_line TO tongdui_app;
GRANT SELECT, INSERT, UPDATE (holds) ON settlement.match_leaf, settlement.match_line TO tongdui_app;
