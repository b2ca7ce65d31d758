-- Below which funds somebody is told, and a way to the events that moved money for a cycle.

CREATE TABLE settlement.funds_level (
    merchant_no integer NOT NULL REFERENCES settlement.merchant,
    set_at timestamptz NOT NULL,
    level_cu bigint NOT NULL CHECK (level_cu >= 0 AND level_cu < 1000000000000000),
    PRIMARY KEY (merchant_no, set_at)
);

CREATE INDEX event_of_money ON settlement.event (cycle_no, part) WHERE kind IN (15, 25, 26);

GRANT SELECT, INSERT ON settlement.funds_level TO tongdui_app;
