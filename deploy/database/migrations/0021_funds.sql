-- Whose the money is that lies at the bank: funds by party, shares of the default fund, debts of a default.

CREATE TABLE settlement.funds (
    part smallint NOT NULL,
    party integer NOT NULL CHECK (party <> 0 AND party >= -4),
    cu bigint NOT NULL,
    PRIMARY KEY (part, party)
);

-- Whose the default fund is; party 0 is the house. The sum is the fund, party -3 in settlement.funds.
CREATE TABLE settlement.contribution (
    part smallint NOT NULL,
    party integer NOT NULL CHECK (party >= 0),
    cu bigint NOT NULL CHECK (cu >= 0),
    PRIMARY KEY (part, party)
);

CREATE TABLE settlement.debt (
    part smallint NOT NULL,
    debtor integer NOT NULL CHECK (debtor > 0),
    creditor integer NOT NULL CHECK (creditor <> debtor),
    cu bigint NOT NULL CHECK (cu >= 0),
    PRIMARY KEY (part, debtor, creditor)
);

-- Pairs of merchants whose obligations of a closed cycle were settled before the rest of it.
CREATE TABLE settlement.discharge (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    one integer NOT NULL CHECK (one > 0),
    other integer NOT NULL CHECK (other > one),
    one_cu bigint NOT NULL,
    other_cu bigint NOT NULL,
    fees_cu bigint NOT NULL,
    rounding_cu bigint NOT NULL CHECK (one_cu + other_cu + fees_cu + rounding_cu = 0),
    PRIMARY KEY (part, cycle_no, one, other)
);

ALTER TABLE settlement.event
    ADD CONSTRAINT event_money_moves CHECK (
        kind NOT IN (23, 24, 25)
        OR (debit_cu = 0 AND value_cu > 0 AND fee_cu = 0 AND order_seq = 0 AND member_no = 0)
    ) NOT VALID;

-- Cycles that were settled before money was counted here: their positions are what was paid, or is still to be.
INSERT INTO settlement.funds (part, party, cu)
SELECT p.part, p.merchant_no, sum(p.net_cu)
  FROM settlement.position AS p
  JOIN settlement.cycle AS c ON c.part = p.part AND c.cycle_no = p.cycle_no
 WHERE c.state = 'settled'
 GROUP BY p.part, p.merchant_no;

GRANT SELECT, INSERT, UPDATE ON settlement.funds, settlement.contribution, settlement.debt TO tongdui_app;
GRANT SELECT, INSERT ON settlement.discharge TO tongdui_app;
