-- What protects members: which proof an issuer asks for, and how much a member may spend in a day.

-- Like a rate: a row counts from its instant of effect, and never changes.
CREATE TABLE exchange.member_rules (
    merchant_no integer NOT NULL REFERENCES exchange.programme (merchant_no),
    authority text NOT NULL CHECK (authority IN ('none', 'code', 'issuer')),
    daily_cu bigint NOT NULL CHECK (daily_cu >= 0),
    daily_orders integer NOT NULL CHECK (daily_orders >= 0),
    effective_at timestamptz NOT NULL,
    PRIMARY KEY (merchant_no, effective_at)
);

-- Spending codes that were used, by their digest; forgotten once they would have expired anyway.
CREATE TABLE exchange.code_use (
    code uuid NOT NULL,
    until timestamptz NOT NULL,
    seq bigint NOT NULL,
    part smallint NOT NULL,
    PRIMARY KEY (code, part)
);
CREATE INDEX code_use_by_end ON exchange.code_use (until, part);

-- Orders that count against a member's limits; forgotten once they are older than a day.
CREATE TABLE exchange.member_order (
    member_no bigint NOT NULL,
    at timestamptz NOT NULL,
    seq bigint NOT NULL,
    part smallint NOT NULL,
    PRIMARY KEY (seq, part)
);
CREATE INDEX member_order_of_member ON exchange.member_order (member_no, part);
CREATE INDEX member_order_by_age ON exchange.member_order (at, part);

GRANT SELECT, INSERT ON exchange.member_rules TO tongdui_app;
GRANT SELECT, INSERT, DELETE ON exchange.code_use, exchange.member_order TO tongdui_app;
