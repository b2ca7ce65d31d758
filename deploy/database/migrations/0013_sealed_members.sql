-- What members are called stands here sealed under a key of each member's own; destroying it is erasing the member.

-- Keys of the house, wrapped under the master key, which is not in the database.
CREATE TABLE exchange.house_key (
    name text PRIMARY KEY CHECK (name IN ('members', 'lookup', 'token')),
    wrapped bytea NOT NULL,
    master_id text NOT NULL,
    wrapped_at timestamptz NOT NULL
);

-- Members' keys, wrapped under the house's key `members`.
CREATE TABLE exchange.member_key (
    member_no bigint PRIMARY KEY REFERENCES exchange.member (member_no),
    wrapped bytea NOT NULL,
    made_at timestamptz NOT NULL
);

-- Names that a merchant (scope 0: the house) has for members: found by a keyed digest, readable with the member's key.
CREATE TABLE exchange.member_name (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    member_no bigint NOT NULL REFERENCES exchange.member (member_no),
    scope integer NOT NULL CHECK (scope >= 0),
    sealed bytea NOT NULL,
    named_at timestamptz NOT NULL
);
CREATE INDEX member_name_of_member ON exchange.member_name (member_no, scope);

-- What a member agreed to: that one merchant's customer is made known to another, for a purpose.
CREATE TABLE exchange.consent (
    consent_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_no bigint NOT NULL REFERENCES exchange.member (member_no),
    giver integer NOT NULL,
    receiver integer NOT NULL CHECK (receiver <> giver),
    purpose text NOT NULL CHECK (length(purpose) BETWEEN 1 AND 200),
    given_at timestamptz NOT NULL,
    withdrawn_at timestamptz,
    CHECK (withdrawn_at >= given_at)
);
CREATE INDEX consent_of_member ON exchange.consent (member_no, receiver);
CREATE INDEX consent_withdrawn ON exchange.consent (withdrawn_at) WHERE withdrawn_at IS NOT NULL;

-- Whether a merchant calls members by names of its own; else by their references at the house.
ALTER TABLE exchange.programme ADD COLUMN own_names boolean NOT NULL DEFAULT false;

-- References of before are sealed when the program starts, which has the key that no migration has.
ALTER TABLE exchange.member ALTER COLUMN reference DROP NOT NULL;
ALTER TABLE exchange.member ADD COLUMN erased_at timestamptz;
CREATE INDEX member_erased ON exchange.member (erased_at) WHERE erased_at IS NOT NULL;
ALTER TABLE exchange.member_link ALTER COLUMN merchant_member DROP NOT NULL;
ALTER TABLE exchange.member_link ADD COLUMN sealed bytea;
ALTER TABLE exchange.member_link ADD CHECK ((merchant_member IS NULL) <> (sealed IS NULL));

-- Who the member is at the merchants stands open while an order is under way, and no longer.
UPDATE exchange.journey SET issuer_member = '', acceptor_member = '' WHERE ended_at IS NOT NULL;

GRANT UPDATE (issuer_member, acceptor_member) ON exchange.journey TO tongdui_app;
GRANT SELECT, INSERT ON exchange.house_key, exchange.member_key, exchange.member_name, exchange.consent TO tongdui_app;
GRANT UPDATE (wrapped, master_id, wrapped_at) ON exchange.house_key TO tongdui_app;
GRANT DELETE ON exchange.member_key, exchange.member_name, exchange.member_link TO tongdui_app;
GRANT UPDATE (withdrawn_at) ON exchange.consent TO tongdui_app;
GRANT UPDATE (reference, erased_at) ON exchange.member TO tongdui_app;
