-- Households: members of one programme who share their points. A transfer is an event of kind 21 (given, of the
-- giver) and, for each lot that gave, one of kind 22 (received, of the receiver); it moves no money.

-- A giver's transfers of the last month, and all transfers for the audit; only they stand in this index.
CREATE INDEX event_transfer ON settlement.event (member_no, at, part) WHERE kind IN (21, 22);

ALTER TABLE settlement.event ADD CONSTRAINT event_transfer_moves_points_alone CHECK (
    kind NOT IN (21, 22)
    OR (
        units > 0 AND debit_cu = 0 AND value_cu = 0 AND fee_cu = 0 AND credited_units = 0 AND acceptor = 0
        AND member_no > 0 AND order_seq > 0 AND (kind = 21) = (order_seq = seq) AND (kind = 22) = (lot_no > 0)
    )
) NOT VALID; -- There is none before this.

-- What a merchant allows its members' households; the newest row counts.
CREATE TABLE exchange.household_rules (
    rules_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant_no integer NOT NULL REFERENCES exchange.programme (merchant_no),
    offered boolean NOT NULL,
    members_max integer NOT NULL CHECK (members_max >= 2),
    transfer_units_max bigint NOT NULL CHECK (transfer_units_max > 0),
    daily_units bigint NOT NULL CHECK (daily_units > 0),
    daily_transfers integer NOT NULL CHECK (daily_transfers > 0),
    monthly_units bigint NOT NULL CHECK (monthly_units > 0),
    monthly_transfers integer NOT NULL CHECK (monthly_transfers > 0),
    cooling_days integer NOT NULL CHECK (cooling_days >= 0),
    set_at timestamptz NOT NULL
);
CREATE INDEX household_rules_of_merchant ON exchange.household_rules (merchant_no, rules_no);

-- A household says nothing about anybody; who is in it stands in the next table.
CREATE TABLE exchange.household (
    household_id uuid PRIMARY KEY,
    merchant_no integer NOT NULL REFERENCES exchange.programme (merchant_no),
    made_at timestamptz NOT NULL,
    dissolved_at timestamptz CHECK (dissolved_at >= made_at)
);

-- Invitations and memberships: invited, then joined with a consent, then left. Erasing a member deletes theirs.
CREATE TABLE exchange.household_member (
    membership_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    household_id uuid NOT NULL REFERENCES exchange.household (household_id),
    merchant_no integer NOT NULL,
    member_no bigint NOT NULL REFERENCES exchange.member (member_no),
    head boolean NOT NULL,
    invited_at timestamptz NOT NULL,
    invited_until timestamptz NOT NULL,
    joined_at timestamptz CHECK (joined_at >= invited_at),
    purpose text CHECK (length(purpose) BETWEEN 1 AND 200),
    text_version text CHECK (length(text_version) BETWEEN 1 AND 40),
    left_at timestamptz CHECK (left_at >= coalesce(joined_at, invited_at)),
    left_why text CHECK (left_why IN ('left', 'removed', 'declined', 'withdrawn', 'dissolved')),
    CONSTRAINT household_member_joins_with_consent CHECK (
        (joined_at IS NULL) = (purpose IS NULL) AND (joined_at IS NULL) = (text_version IS NULL)
    ),
    CONSTRAINT household_member_leaves_for_a_reason CHECK ((left_at IS NULL) = (left_why IS NULL))
);
-- One household for a member in each programme.
CREATE UNIQUE INDEX household_member_in_one ON exchange.household_member (member_no, merchant_no)
 WHERE joined_at IS NOT NULL AND left_at IS NULL;
CREATE INDEX household_member_of_household ON exchange.household_member (household_id);
CREATE INDEX household_member_of_member ON exchange.household_member (member_no, merchant_no);

-- The lot that each lot came from which a household's transfer made: the lots that gave stand in the order in which
-- they are spent, and so do the events of kind 22.
CREATE VIEW exchange.lot_source AS
SELECT l.part, l.lot_no, source.lot_no AS from_lot_no
  FROM exchange.lot AS l
  JOIN settlement.event AS received ON received.part = l.part AND received.seq = l.made_seq AND received.kind = 22
  JOIN settlement.event AS given ON given.part = l.part AND given.seq = received.order_seq
 CROSS JOIN LATERAL (
       SELECT g.lot_no
         FROM exchange.lot AS g
         JOIN exchange.lot_use AS u ON u.part = g.part AND u.lot_no = g.lot_no AND u.seq = given.seq
        WHERE g.part = l.part AND g.member_no = given.member_no
        ORDER BY g.expires_at, g.lot_no
       OFFSET received.step - 1
        LIMIT 1
 ) AS source;

GRANT SELECT ON exchange.lot_source TO tongdui_app;
GRANT SELECT, INSERT ON exchange.household_rules, exchange.household TO tongdui_app;
GRANT SELECT, INSERT, DELETE ON exchange.household_member TO tongdui_app;
GRANT UPDATE (dissolved_at) ON exchange.household TO tongdui_app;
GRANT UPDATE (joined_at, purpose, text_version, left_at, left_why) ON exchange.household_member TO tongdui_app;
