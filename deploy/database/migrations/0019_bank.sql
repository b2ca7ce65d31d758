-- What banks say moved, and what of it belongs to which instruction.

CREATE TABLE settlement.bank_statement (
    statement_no integer PRIMARY KEY CHECK (statement_no > 0),
    account text NOT NULL CHECK (account ~ '^[0-9A-Z]{1,34}$'),
    number text NOT NULL CHECK (number <> ''),
    opened_on date NOT NULL,
    closed_on date NOT NULL CHECK (closed_on >= opened_on),
    opening_fen bigint NOT NULL,
    closing_fen bigint NOT NULL,
    entries integer NOT NULL CHECK (entries >= 0),
    -- The statement of the account before this one; null for the account's first.
    follows integer UNIQUE REFERENCES settlement.bank_statement,
    content_sha256 bytea NOT NULL UNIQUE CHECK (length(content_sha256) = 32),
    imported_at timestamptz NOT NULL,
    UNIQUE (account, number, opened_on)
);
CREATE UNIQUE INDEX bank_statement_first ON settlement.bank_statement (account) WHERE follows IS NULL;

CREATE TABLE settlement.bank_entry (
    statement_no integer NOT NULL REFERENCES settlement.bank_statement,
    entry_no integer NOT NULL CHECK (entry_no > 0),
    place text NOT NULL,
    amount_fen bigint NOT NULL,
    booked_on date NOT NULL,
    reference text NOT NULL,
    bank_reference text NOT NULL,
    party_name text NOT NULL,
    party_account text NOT NULL,
    is_return boolean NOT NULL,
    PRIMARY KEY (statement_no, entry_no)
);

CREATE TABLE settlement.match (
    match_no integer PRIMARY KEY CHECK (match_no > 0),
    step text NOT NULL CHECK (step IN ('exact', 'reference', 'amount_and_day', 'one_to_many', 'person')),
    -- What differs nevertheless; null where nothing does.
    difference text CHECK (difference IN ('amount', 'sign', 'date', 'split')),
    made_at timestamptz NOT NULL,
    made_by text NOT NULL CHECK (made_by <> ''),
    -- When a person looked at the difference and let it stand.
    accepted_at timestamptz CHECK (accepted_at >= made_at),
    undone_at timestamptz CHECK (undone_at >= made_at)
);

-- A match holds what it matched until it is undone; nothing is held by two.
CREATE TABLE settlement.match_instruction (
    match_no integer NOT NULL REFERENCES settlement.match,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    holds boolean NOT NULL DEFAULT true,
    PRIMARY KEY (match_no, cycle_no, merchant_no),
    FOREIGN KEY (cycle_no, merchant_no) REFERENCES settlement.instruction
);
CREATE UNIQUE INDEX match_instruction_once ON settlement.match_instruction (cycle_no, merchant_no) WHERE holds;

CREATE TABLE settlement.match_entry (
    match_no integer NOT NULL REFERENCES settlement.match,
    statement_no integer NOT NULL,
    entry_no integer NOT NULL,
    holds boolean NOT NULL DEFAULT true,
    PRIMARY KEY (match_no, statement_no, entry_no),
    FOREIGN KEY (statement_no, entry_no) REFERENCES settlement.bank_entry
);
CREATE UNIQUE INDEX match_entry_once ON settlement.match_entry (statement_no, entry_no) WHERE holds;

GRANT SELECT, INSERT ON settlement.bank_statement, settlement.bank_entry TO tongdui_app;
GRANT SELECT, INSERT, UPDATE (accepted_at, undone_at) ON settlement.match TO tongdui_app;
GRANT SELECT, INSERT, UPDATE (holds) ON settlement.match_instruction, settlement.match_entry TO tongdui_app;
