-- What the migrations make, for reading; the migrations are what runs.
-- Made by `python -m deploy.database.schema`; do not edit.

CREATE SCHEMA exchange;

GRANT USAGE ON SCHEMA exchange TO tongdui_app;

CREATE SCHEMA settlement;

GRANT USAGE ON SCHEMA settlement TO tongdui_app;

CREATE TABLE exchange.api_key (
    digest bytea NOT NULL,
    merchant_no integer NOT NULL,
    label text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT api_key_digest_check CHECK ((length(digest) = 32))
);

ALTER TABLE ONLY exchange.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (digest);

GRANT SELECT,INSERT ON TABLE exchange.api_key TO tongdui_app;

GRANT UPDATE(revoked_at) ON TABLE exchange.api_key TO tongdui_app;

CREATE TABLE exchange.code_use (
    code uuid NOT NULL,
    until timestamp with time zone NOT NULL,
    seq bigint NOT NULL,
    part smallint NOT NULL
);

ALTER TABLE ONLY exchange.code_use
    ADD CONSTRAINT code_use_pkey PRIMARY KEY (code, part);

CREATE INDEX code_use_by_end ON exchange.code_use USING btree (until, part);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.code_use TO tongdui_app;

CREATE TABLE exchange.connection (
    merchant_no integer NOT NULL,
    connection_no integer NOT NULL,
    folder text NOT NULL,
    settings jsonb NOT NULL,
    certificate_digest bytea,
    connected_at timestamp with time zone NOT NULL,
    CONSTRAINT connection_certificate_digest_check CHECK ((length(certificate_digest) = 32))
);

ALTER TABLE ONLY exchange.connection
    ADD CONSTRAINT connection_pkey PRIMARY KEY (connection_no);

GRANT SELECT,INSERT ON TABLE exchange.connection TO tongdui_app;

ALTER TABLE exchange.connection ALTER COLUMN connection_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.connection_connection_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.consent (
    consent_no bigint NOT NULL,
    member_no bigint NOT NULL,
    giver integer NOT NULL,
    receiver integer NOT NULL,
    purpose text NOT NULL,
    given_at timestamp with time zone NOT NULL,
    withdrawn_at timestamp with time zone,
    CONSTRAINT consent_check CHECK ((receiver <> giver)),
    CONSTRAINT consent_check1 CHECK ((withdrawn_at >= given_at)),
    CONSTRAINT consent_purpose_check CHECK (((length(purpose) >= 1) AND (length(purpose) <= 200)))
);

ALTER TABLE ONLY exchange.consent
    ADD CONSTRAINT consent_pkey PRIMARY KEY (consent_no);

CREATE INDEX consent_of_member ON exchange.consent USING btree (member_no, receiver);

CREATE INDEX consent_withdrawn ON exchange.consent USING btree (withdrawn_at) WHERE (withdrawn_at IS NOT NULL);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.consent TO tongdui_app;

GRANT UPDATE(withdrawn_at) ON TABLE exchange.consent TO tongdui_app;

ALTER TABLE exchange.consent ALTER COLUMN consent_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.consent_consent_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.dead_letter (
    endpoint_no integer NOT NULL,
    letter_no bigint NOT NULL,
    event_id text NOT NULL,
    given_up_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    last_error text NOT NULL,
    replay_wanted boolean NOT NULL,
    delivered_at timestamp with time zone,
    CONSTRAINT dead_letter_attempts_check CHECK ((attempts > 0))
);

ALTER TABLE ONLY exchange.dead_letter
    ADD CONSTRAINT dead_letter_endpoint_no_event_id_key UNIQUE (endpoint_no, event_id);

ALTER TABLE ONLY exchange.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (endpoint_no, letter_no);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.dead_letter TO tongdui_app;

GRANT UPDATE(attempts) ON TABLE exchange.dead_letter TO tongdui_app;

GRANT UPDATE(last_error) ON TABLE exchange.dead_letter TO tongdui_app;

GRANT UPDATE(replay_wanted) ON TABLE exchange.dead_letter TO tongdui_app;

GRANT UPDATE(delivered_at) ON TABLE exchange.dead_letter TO tongdui_app;

ALTER TABLE exchange.dead_letter ALTER COLUMN letter_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.dead_letter_letter_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.endpoint (
    endpoint_no integer NOT NULL,
    merchant_no integer NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seq bigint NOT NULL,
    notice_no bigint NOT NULL,
    attempts integer NOT NULL,
    next_at timestamp with time zone NOT NULL,
    last_error text NOT NULL,
    silent boolean NOT NULL,
    replay_wanted boolean NOT NULL,
    paused_at timestamp with time zone,
    removed_at timestamp with time zone,
    worker uuid,
    claim_no integer NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    CONSTRAINT endpoint_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT endpoint_claim_no_check CHECK ((claim_no >= 0)),
    CONSTRAINT endpoint_merchant_no_check CHECK ((merchant_no >= 0)),
    CONSTRAINT endpoint_notice_no_check CHECK ((notice_no >= 0)),
    CONSTRAINT endpoint_seq_check CHECK ((seq >= 0)),
    CONSTRAINT endpoint_url_check CHECK (((length(url) >= 1) AND (length(url) <= 2000)))
)
WITH (fillfactor='20');

ALTER TABLE ONLY exchange.endpoint
    ADD CONSTRAINT endpoint_pkey PRIMARY KEY (endpoint_no);

CREATE INDEX endpoint_of_merchant ON exchange.endpoint USING btree (merchant_no) WHERE (removed_at IS NULL);

GRANT SELECT,INSERT ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(seq) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(notice_no) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(attempts) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(next_at) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(last_error) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(silent) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(replay_wanted) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(paused_at) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(removed_at) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(worker) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(claim_no) ON TABLE exchange.endpoint TO tongdui_app;

GRANT UPDATE(lease_until) ON TABLE exchange.endpoint TO tongdui_app;

ALTER TABLE exchange.endpoint ALTER COLUMN endpoint_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.endpoint_endpoint_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.expiry_run (
    part smallint NOT NULL,
    through timestamp with time zone NOT NULL
);

ALTER TABLE ONLY exchange.expiry_run
    ADD CONSTRAINT expiry_run_pkey PRIMARY KEY (part);

GRANT SELECT,INSERT,UPDATE ON TABLE exchange.expiry_run TO tongdui_app;

CREATE TABLE exchange.house_key (
    name text NOT NULL,
    wrapped bytea NOT NULL,
    master_id text NOT NULL,
    wrapped_at timestamp with time zone NOT NULL,
    CONSTRAINT house_key_name_check CHECK ((name = ANY (ARRAY['members'::text, 'lookup'::text, 'token'::text, 'requests'::text, 'people'::text])))
);

ALTER TABLE ONLY exchange.house_key
    ADD CONSTRAINT house_key_pkey PRIMARY KEY (name);

GRANT SELECT,INSERT ON TABLE exchange.house_key TO tongdui_app;

GRANT UPDATE(wrapped) ON TABLE exchange.house_key TO tongdui_app;

GRANT UPDATE(master_id) ON TABLE exchange.house_key TO tongdui_app;

GRANT UPDATE(wrapped_at) ON TABLE exchange.house_key TO tongdui_app;

CREATE TABLE exchange.household (
    household_id uuid NOT NULL,
    merchant_no integer NOT NULL,
    made_at timestamp with time zone NOT NULL,
    dissolved_at timestamp with time zone,
    CONSTRAINT household_check CHECK ((dissolved_at >= made_at))
);

ALTER TABLE ONLY exchange.household
    ADD CONSTRAINT household_pkey PRIMARY KEY (household_id);

GRANT SELECT,INSERT ON TABLE exchange.household TO tongdui_app;

GRANT UPDATE(dissolved_at) ON TABLE exchange.household TO tongdui_app;

CREATE TABLE exchange.household_member (
    membership_no bigint NOT NULL,
    household_id uuid NOT NULL,
    merchant_no integer NOT NULL,
    member_no bigint NOT NULL,
    head boolean NOT NULL,
    invited_at timestamp with time zone NOT NULL,
    invited_until timestamp with time zone NOT NULL,
    joined_at timestamp with time zone,
    purpose text,
    text_version text,
    left_at timestamp with time zone,
    left_why text,
    CONSTRAINT household_member_check CHECK ((joined_at >= invited_at)),
    CONSTRAINT household_member_check1 CHECK ((left_at >= COALESCE(joined_at, invited_at))),
    CONSTRAINT household_member_joins_with_consent CHECK ((((joined_at IS NULL) = (purpose IS NULL)) AND ((joined_at IS NULL) = (text_version IS NULL)))),
    CONSTRAINT household_member_leaves_for_a_reason CHECK (((left_at IS NULL) = (left_why IS NULL))),
    CONSTRAINT household_member_left_why_check CHECK ((left_why = ANY (ARRAY['left'::text, 'removed'::text, 'declined'::text, 'withdrawn'::text, 'dissolved'::text]))),
    CONSTRAINT household_member_purpose_check CHECK (((length(purpose) >= 1) AND (length(purpose) <= 200))),
    CONSTRAINT household_member_text_version_check CHECK (((length(text_version) >= 1) AND (length(text_version) <= 40)))
);

ALTER TABLE ONLY exchange.household_member
    ADD CONSTRAINT household_member_pkey PRIMARY KEY (membership_no);

CREATE UNIQUE INDEX household_member_in_one ON exchange.household_member USING btree (member_no, merchant_no) WHERE ((joined_at IS NOT NULL) AND (left_at IS NULL));

CREATE INDEX household_member_of_household ON exchange.household_member USING btree (household_id);

CREATE INDEX household_member_of_member ON exchange.household_member USING btree (member_no, merchant_no);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.household_member TO tongdui_app;

GRANT UPDATE(joined_at) ON TABLE exchange.household_member TO tongdui_app;

GRANT UPDATE(purpose) ON TABLE exchange.household_member TO tongdui_app;

GRANT UPDATE(text_version) ON TABLE exchange.household_member TO tongdui_app;

GRANT UPDATE(left_at) ON TABLE exchange.household_member TO tongdui_app;

GRANT UPDATE(left_why) ON TABLE exchange.household_member TO tongdui_app;

ALTER TABLE exchange.household_member ALTER COLUMN membership_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.household_member_membership_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.household_rules (
    rules_no bigint NOT NULL,
    merchant_no integer NOT NULL,
    offered boolean NOT NULL,
    members_max integer NOT NULL,
    transfer_units_max bigint NOT NULL,
    daily_units bigint NOT NULL,
    daily_transfers integer NOT NULL,
    monthly_units bigint NOT NULL,
    monthly_transfers integer NOT NULL,
    cooling_days integer NOT NULL,
    set_at timestamp with time zone NOT NULL,
    CONSTRAINT household_rules_cooling_days_check CHECK ((cooling_days >= 0)),
    CONSTRAINT household_rules_daily_transfers_check CHECK ((daily_transfers > 0)),
    CONSTRAINT household_rules_daily_units_check CHECK ((daily_units > 0)),
    CONSTRAINT household_rules_members_max_check CHECK ((members_max >= 2)),
    CONSTRAINT household_rules_monthly_transfers_check CHECK ((monthly_transfers > 0)),
    CONSTRAINT household_rules_monthly_units_check CHECK ((monthly_units > 0)),
    CONSTRAINT household_rules_transfer_units_max_check CHECK ((transfer_units_max > 0))
);

ALTER TABLE ONLY exchange.household_rules
    ADD CONSTRAINT household_rules_pkey PRIMARY KEY (rules_no);

CREATE INDEX household_rules_of_merchant ON exchange.household_rules USING btree (merchant_no, rules_no);

GRANT SELECT,INSERT ON TABLE exchange.household_rules TO tongdui_app;

ALTER TABLE exchange.household_rules ALTER COLUMN rules_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.household_rules_rules_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.journey (
    journey_no bigint NOT NULL,
    key uuid NOT NULL,
    body uuid NOT NULL,
    caller integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    member_no bigint NOT NULL,
    units bigint NOT NULL,
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    credited_units bigint NOT NULL,
    rate_no integer NOT NULL,
    hold_us bigint NOT NULL,
    occurred_at timestamp with time zone,
    reference text NOT NULL,
    code bytea,
    code_until timestamp with time zone,
    issuer_member text NOT NULL,
    acceptor_member text NOT NULL,
    wanted_at timestamp with time zone NOT NULL,
    decide_by timestamp with time zone NOT NULL,
    worker uuid NOT NULL,
    claim_no integer NOT NULL,
    state smallint NOT NULL,
    verdict smallint NOT NULL,
    reason smallint NOT NULL,
    order_seq bigint NOT NULL,
    accepted_at timestamp with time zone,
    stuck_since timestamp with time zone,
    stuck_why text NOT NULL,
    ended_at timestamp with time zone,
    waits boolean DEFAULT false NOT NULL,
    CONSTRAINT journey_claim_no_check CHECK ((claim_no > 0)),
    CONSTRAINT journey_credited_units_check CHECK ((credited_units >= 0)),
    CONSTRAINT journey_end_and_time_agree CHECK (((state >= 30) = (ended_at IS NOT NULL))),
    CONSTRAINT journey_hold_us_check CHECK ((hold_us > 0)),
    CONSTRAINT journey_order_and_time_agree CHECK (((order_seq > 0) = (accepted_at IS NOT NULL))),
    CONSTRAINT journey_units_check CHECK ((units > 0)),
    CONSTRAINT journey_verdict_check CHECK ((verdict = ANY (ARRAY[0, 1, 2])))
)
WITH (fillfactor='60');

ALTER TABLE ONLY exchange.journey
    ADD CONSTRAINT journey_key UNIQUE (key, caller);

ALTER TABLE ONLY exchange.journey
    ADD CONSTRAINT journey_pkey PRIMARY KEY (journey_no);

CREATE INDEX journey_open ON exchange.journey USING btree (worker) WHERE (ended_at IS NULL);

CREATE INDEX journey_stuck ON exchange.journey USING btree (stuck_since) WHERE (stuck_since IS NOT NULL);

GRANT SELECT,INSERT ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(issuer_member) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(acceptor_member) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(worker) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(claim_no) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(state) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(verdict) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(reason) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(order_seq) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(accepted_at) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(stuck_since) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(stuck_why) ON TABLE exchange.journey TO tongdui_app;

GRANT UPDATE(ended_at) ON TABLE exchange.journey TO tongdui_app;

ALTER TABLE exchange.journey ALTER COLUMN journey_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.journey_journey_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.journey_line (
    journey_no bigint NOT NULL,
    line_no bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    units bigint,
    step "char" NOT NULL,
    source smallint NOT NULL,
    outcome text,
    reason smallint NOT NULL,
    number text NOT NULL,
    detail text NOT NULL,
    CONSTRAINT journey_line_intent_has_no_outcome CHECK (((source = 0) = (outcome IS NULL))),
    CONSTRAINT journey_line_outcome_check CHECK ((outcome = ANY (ARRAY['done'::text, 'refused'::text, 'unknown'::text]))),
    CONSTRAINT journey_line_source_check CHECK (((source >= 0) AND (source <= 4))),
    CONSTRAINT journey_line_step_check CHECK ((step = ANY (ARRAY['H'::"char", 'C'::"char", 'R'::"char", 'K'::"char", 'V'::"char"])))
);

ALTER TABLE ONLY exchange.journey_line
    ADD CONSTRAINT journey_line_pkey PRIMARY KEY (journey_no, line_no);

GRANT SELECT,INSERT ON TABLE exchange.journey_line TO tongdui_app;

ALTER TABLE exchange.journey_line ALTER COLUMN line_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.journey_line_line_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.lot (
    lot_no bigint NOT NULL,
    member_no bigint NOT NULL,
    earned_units bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    made_seq bigint NOT NULL,
    merchant_no integer NOT NULL,
    part smallint NOT NULL,
    CONSTRAINT lot_earned_units_check CHECK ((earned_units > 0))
);

ALTER TABLE ONLY exchange.lot
    ADD CONSTRAINT lot_pkey PRIMARY KEY (lot_no, part);

CREATE INDEX lot_by_expiry ON exchange.lot USING btree (expires_at, part);

CREATE INDEX lot_of_member ON exchange.lot USING btree (member_no, part);

GRANT SELECT,INSERT ON TABLE exchange.lot TO tongdui_app;

CREATE TABLE exchange.lot_use (
    lot_no bigint NOT NULL,
    seq bigint NOT NULL,
    units bigint NOT NULL,
    left_units bigint NOT NULL,
    part smallint NOT NULL,
    CONSTRAINT lot_use_left_units_check CHECK ((left_units >= 0)),
    CONSTRAINT lot_use_units_check CHECK ((units <> 0))
);

ALTER TABLE ONLY exchange.lot_use
    ADD CONSTRAINT lot_use_pkey PRIMARY KEY (lot_no, seq, part);

GRANT SELECT,INSERT ON TABLE exchange.lot_use TO tongdui_app;

CREATE VIEW exchange.lot_balance AS
 SELECT l.part,
    l.lot_no,
    l.member_no,
    l.merchant_no,
    l.earned_units,
    COALESCE(last_use.left_units, l.earned_units) AS units,
    l.expires_at,
    l.made_seq
   FROM (exchange.lot l
     LEFT JOIN LATERAL ( SELECT u.left_units
           FROM exchange.lot_use u
          WHERE ((u.lot_no = l.lot_no) AND (u.part = l.part))
          ORDER BY u.seq DESC
         LIMIT 1) last_use ON (true));

GRANT SELECT ON TABLE exchange.lot_balance TO tongdui_app;

CREATE TABLE settlement.event (
    seq bigint NOT NULL,
    order_seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
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
    CONSTRAINT event_amounts_add_up CHECK (((kind <> ALL (ARRAY[1, 3])) OR ((units > 0) AND (0 <= fee_cu) AND (fee_cu <= value_cu) AND (value_cu <= debit_cu) AND (debit_cu > 0) AND (debit_cu < '1000000000000000'::bigint) AND (issuer <> acceptor)))),
    CONSTRAINT event_seq_positive CHECK ((seq > 0))
);

ALTER TABLE settlement.event
    ADD CONSTRAINT event_adjustment_corrects CHECK (((kind <> 6) OR ((units = 0) AND (credited_units = 0) AND (lot_no = 0) AND (member_no = 0) AND ((caller = 0) OR ((caller = issuer) AND (order_seq = 0) AND (value_cu > 0))) AND (issuer <> acceptor) AND (order_seq >= 0) AND (order_seq < seq) AND (((0 <= fee_cu) AND (fee_cu <= value_cu) AND (value_cu <= debit_cu) AND (value_cu > 0) AND (debit_cu < '1000000000000000'::bigint)) OR ((debit_cu <= 0) AND (value_cu <= 0) AND (fee_cu <= 0) AND (((debit_cu + value_cu) + fee_cu) < 0) AND (LEAST(debit_cu, value_cu, fee_cu) > '-1000000000000000'::bigint) AND ((order_seq > 0) OR ((debit_cu <= value_cu) AND (value_cu <= fee_cu)))))))) NOT VALID;

ALTER TABLE ONLY settlement.event
    ADD CONSTRAINT event_key UNIQUE (key, caller, step, part);

ALTER TABLE settlement.event
    ADD CONSTRAINT event_money_moves CHECK (((kind <> ALL (ARRAY[23, 24, 25])) OR ((debit_cu = 0) AND (value_cu > 0) AND (fee_cu = 0) AND (order_seq = 0) AND (member_no = 0)))) NOT VALID;

ALTER TABLE ONLY settlement.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (seq, part);

ALTER TABLE settlement.event
    ADD CONSTRAINT event_reversal_takes_back CHECK (((kind <> 20) OR ((units < 0) AND (debit_cu <= 0) AND (value_cu <= 0) AND (fee_cu <= 0) AND (credited_units <= 0) AND (debit_cu > '-1000000000000000'::bigint) AND (issuer <> acceptor) AND (order_seq > 0) AND (order_seq < seq)))) NOT VALID;

ALTER TABLE settlement.event
    ADD CONSTRAINT event_transfer_moves_points_alone CHECK (((kind <> ALL (ARRAY[21, 22])) OR ((units > 0) AND (debit_cu = 0) AND (value_cu = 0) AND (fee_cu = 0) AND (credited_units = 0) AND (acceptor = 0) AND (member_no > 0) AND (order_seq > 0) AND ((kind = 21) = (order_seq = seq)) AND ((kind = 22) = (lot_no > 0))))) NOT VALID;

CREATE INDEX event_adjustment ON settlement.event USING btree (order_seq, part) WHERE (kind = 6);

CREATE UNIQUE INDEX event_end ON settlement.event USING btree (order_seq, part) WHERE ((kind = ANY (ARRAY[3, 4, 5])) AND (order_seq <> seq));

CREATE INDEX event_of_calls ON settlement.event USING btree (issuer, at, part) WHERE (kind = ANY (ARRAY[16, 17, 18, 19]));

CREATE INDEX event_of_money ON settlement.event USING btree (cycle_no, part) WHERE (kind = ANY (ARRAY[15, 25, 26]));

CREATE INDEX event_reversal ON settlement.event USING btree (order_seq, part) WHERE (kind = 20);

CREATE INDEX event_transfer ON settlement.event USING btree (member_no, at, part) WHERE (kind = ANY (ARRAY[21, 22]));

CREATE UNIQUE INDEX event_undone ON settlement.event USING btree (order_seq, part) WHERE ((kind = ANY (ARRAY[17, 19])) AND (order_seq > 0));

GRANT SELECT,INSERT ON TABLE settlement.event TO tongdui_app;

CREATE VIEW exchange.lot_source AS
 SELECT l.part,
    l.lot_no,
    source.lot_no AS from_lot_no
   FROM (((exchange.lot l
     JOIN settlement.event received ON (((received.part = l.part) AND (received.seq = l.made_seq) AND (received.kind = 22))))
     JOIN settlement.event given ON (((given.part = l.part) AND (given.seq = received.order_seq))))
     CROSS JOIN LATERAL ( SELECT g.lot_no
           FROM (exchange.lot g
             JOIN exchange.lot_use u ON (((u.part = g.part) AND (u.lot_no = g.lot_no) AND (u.seq = given.seq))))
          WHERE ((g.part = l.part) AND (g.member_no = given.member_no))
          ORDER BY g.expires_at, g.lot_no
         OFFSET (received.step - 1)
         LIMIT 1) source);

GRANT SELECT ON TABLE exchange.lot_source TO tongdui_app;

CREATE TABLE exchange.member (
    member_no bigint NOT NULL,
    reference text,
    enrolled_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone,
    CONSTRAINT member_member_no_check CHECK ((member_no > 0))
);

ALTER TABLE ONLY exchange.member
    ADD CONSTRAINT member_pkey PRIMARY KEY (member_no);

ALTER TABLE ONLY exchange.member
    ADD CONSTRAINT member_reference_key UNIQUE (reference);

CREATE INDEX member_erased ON exchange.member USING btree (erased_at) WHERE (erased_at IS NOT NULL);

GRANT SELECT,INSERT ON TABLE exchange.member TO tongdui_app;

GRANT UPDATE(reference) ON TABLE exchange.member TO tongdui_app;

GRANT UPDATE(erased_at) ON TABLE exchange.member TO tongdui_app;

CREATE TABLE exchange.member_key (
    member_no bigint NOT NULL,
    wrapped bytea NOT NULL,
    made_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY exchange.member_key
    ADD CONSTRAINT member_key_pkey PRIMARY KEY (member_no);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.member_key TO tongdui_app;

CREATE TABLE exchange.member_link (
    member_no bigint NOT NULL,
    merchant_no integer NOT NULL,
    merchant_member text,
    linked_at timestamp with time zone NOT NULL,
    sealed bytea,
    CONSTRAINT member_link_check CHECK (((merchant_member IS NULL) <> (sealed IS NULL))),
    CONSTRAINT member_link_merchant_member_check CHECK (((length(merchant_member) >= 1) AND (length(merchant_member) <= 128)))
);

ALTER TABLE ONLY exchange.member_link
    ADD CONSTRAINT member_link_pkey PRIMARY KEY (member_no, merchant_no);

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE exchange.member_link TO tongdui_app;

CREATE TABLE exchange.member_name (
    digest bytea NOT NULL,
    member_no bigint NOT NULL,
    scope integer NOT NULL,
    sealed bytea NOT NULL,
    named_at timestamp with time zone NOT NULL,
    CONSTRAINT member_name_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT member_name_scope_check CHECK ((scope >= 0))
);

ALTER TABLE ONLY exchange.member_name
    ADD CONSTRAINT member_name_pkey PRIMARY KEY (digest);

CREATE INDEX member_name_of_member ON exchange.member_name USING btree (member_no, scope);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.member_name TO tongdui_app;

CREATE TABLE exchange.member_order (
    member_no bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    seq bigint NOT NULL,
    part smallint NOT NULL
);

ALTER TABLE ONLY exchange.member_order
    ADD CONSTRAINT member_order_pkey PRIMARY KEY (seq, part);

CREATE INDEX member_order_by_age ON exchange.member_order USING btree (at, part);

CREATE INDEX member_order_of_member ON exchange.member_order USING btree (member_no, part);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.member_order TO tongdui_app;

CREATE TABLE exchange.member_rules (
    merchant_no integer NOT NULL,
    authority text NOT NULL,
    daily_cu bigint NOT NULL,
    daily_orders integer NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    CONSTRAINT member_rules_authority_check CHECK ((authority = ANY (ARRAY['none'::text, 'code'::text, 'issuer'::text]))),
    CONSTRAINT member_rules_daily_cu_check CHECK ((daily_cu >= 0)),
    CONSTRAINT member_rules_daily_orders_check CHECK ((daily_orders >= 0))
);

ALTER TABLE ONLY exchange.member_rules
    ADD CONSTRAINT member_rules_pkey PRIMARY KEY (merchant_no, effective_at);

GRANT SELECT,INSERT ON TABLE exchange.member_rules TO tongdui_app;

CREATE TABLE exchange.notice (
    notice_no bigint NOT NULL,
    event_type text NOT NULL,
    merchant_no integer NOT NULL,
    at timestamp with time zone NOT NULL,
    facts jsonb NOT NULL,
    CONSTRAINT notice_notice_no_check CHECK ((notice_no > 0))
);

ALTER TABLE ONLY exchange.notice
    ADD CONSTRAINT notice_pkey PRIMARY KEY (notice_no);

CREATE INDEX notice_of_merchant ON exchange.notice USING btree (merchant_no, event_type, notice_no);

GRANT SELECT,INSERT ON TABLE exchange.notice TO tongdui_app;

CREATE TABLE exchange.order_worker (
    worker uuid NOT NULL,
    entered_at timestamp with time zone NOT NULL,
    lease_until timestamp with time zone NOT NULL
)
WITH (fillfactor='20');

ALTER TABLE ONLY exchange.order_worker
    ADD CONSTRAINT order_worker_pkey PRIMARY KEY (worker);

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE exchange.order_worker TO tongdui_app;

CREATE TABLE exchange.person (
    person_no integer NOT NULL,
    name text NOT NULL,
    merchant_no integer NOT NULL,
    roles text[] NOT NULL,
    made_at timestamp with time zone NOT NULL,
    disabled_at timestamp with time zone,
    invitation bytea,
    invitation_second bytea,
    invited_until timestamp with time zone,
    password_hash text,
    totp_sealed bytea,
    totp_step bigint DEFAULT 0 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    next_try_at timestamp with time zone NOT NULL,
    oidc_subject text,
    CONSTRAINT person_credentials_together CHECK (((password_hash IS NULL) = (totp_sealed IS NULL))),
    CONSTRAINT person_failures_check CHECK ((failures >= 0)),
    CONSTRAINT person_invitation_check CHECK ((length(invitation) = 32)),
    CONSTRAINT person_invitation_ends CHECK (((invitation IS NULL) = (invited_until IS NULL))),
    CONSTRAINT person_invitation_second_check CHECK ((length(invitation_second) = 32)),
    CONSTRAINT person_merchant_no_check CHECK ((merchant_no >= 0)),
    CONSTRAINT person_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,47}$'::text)),
    CONSTRAINT person_oidc_subject_check CHECK (((length(oidc_subject) >= 1) AND (length(oidc_subject) <= 255))),
    CONSTRAINT person_roles_check CHECK ((cardinality(roles) > 0))
);

ALTER TABLE ONLY exchange.person
    ADD CONSTRAINT person_name_key UNIQUE (name);

ALTER TABLE ONLY exchange.person
    ADD CONSTRAINT person_oidc_subject_key UNIQUE (oidc_subject);

ALTER TABLE ONLY exchange.person
    ADD CONSTRAINT person_pkey PRIMARY KEY (person_no);

GRANT SELECT,INSERT ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(roles) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(disabled_at) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(invitation) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(invitation_second) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(invited_until) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(password_hash) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(totp_sealed) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(totp_step) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(failures) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(next_try_at) ON TABLE exchange.person TO tongdui_app;

GRANT UPDATE(oidc_subject) ON TABLE exchange.person TO tongdui_app;

ALTER TABLE exchange.person ALTER COLUMN person_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.person_person_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.programme (
    merchant_no integer NOT NULL,
    hosted boolean NOT NULL,
    unit text NOT NULL,
    scale smallint NOT NULL,
    earn_num bigint NOT NULL,
    earn_den bigint NOT NULL,
    valid_days integer NOT NULL,
    units_min bigint NOT NULL,
    units_max bigint NOT NULL,
    own_names boolean DEFAULT false NOT NULL,
    CONSTRAINT programme_check CHECK ((units_max >= units_min)),
    CONSTRAINT programme_earn_den_check CHECK ((earn_den > 0)),
    CONSTRAINT programme_earn_num_check CHECK ((earn_num >= 0)),
    CONSTRAINT programme_scale_check CHECK (((scale >= 0) AND (scale <= 9))),
    CONSTRAINT programme_units_min_check CHECK ((units_min > 0)),
    CONSTRAINT programme_valid_days_check CHECK ((valid_days > 0))
);

ALTER TABLE ONLY exchange.programme
    ADD CONSTRAINT programme_pkey PRIMARY KEY (merchant_no);

GRANT SELECT,INSERT ON TABLE exchange.programme TO tongdui_app;

CREATE TABLE exchange.proposal (
    proposal_no integer NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    terms jsonb NOT NULL,
    before jsonb,
    why text NOT NULL,
    maker text NOT NULL,
    made_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT proposal_check CHECK ((expires_at > made_at)),
    CONSTRAINT proposal_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT proposal_why_check CHECK (((length(why) >= 1) AND (length(why) <= 500)))
);

ALTER TABLE ONLY exchange.proposal
    ADD CONSTRAINT proposal_pkey PRIMARY KEY (proposal_no);

ALTER TABLE ONLY exchange.proposal
    ADD CONSTRAINT proposal_proposal_no_maker_key UNIQUE (proposal_no, maker);

GRANT SELECT,INSERT ON TABLE exchange.proposal TO tongdui_app;

CREATE TABLE exchange.proposal_decision (
    proposal_no integer NOT NULL,
    maker text NOT NULL,
    decision text NOT NULL,
    decider text NOT NULL,
    decided_at timestamp with time zone NOT NULL,
    why text NOT NULL,
    body bytea,
    CONSTRAINT proposal_decision_body_check CHECK ((length(body) = 16)),
    CONSTRAINT proposal_decision_decision_check CHECK ((decision = ANY (ARRAY['approved'::text, 'rejected'::text]))),
    CONSTRAINT proposal_decision_has_entry CHECK (((decision = 'approved'::text) = (body IS NOT NULL))),
    CONSTRAINT proposal_decision_two_people CHECK (((decision <> 'approved'::text) OR (decider <> maker))),
    CONSTRAINT proposal_decision_why_check CHECK ((length(why) <= 500))
);

ALTER TABLE ONLY exchange.proposal_decision
    ADD CONSTRAINT proposal_decision_pkey PRIMARY KEY (proposal_no);

GRANT SELECT,INSERT ON TABLE exchange.proposal_decision TO tongdui_app;

CREATE TABLE exchange.proposal_done (
    proposal_no integer NOT NULL,
    done_at timestamp with time zone NOT NULL,
    refused text NOT NULL
);

ALTER TABLE ONLY exchange.proposal_done
    ADD CONSTRAINT proposal_done_pkey PRIMARY KEY (proposal_no);

GRANT SELECT,INSERT ON TABLE exchange.proposal_done TO tongdui_app;

ALTER TABLE exchange.proposal ALTER COLUMN proposal_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.proposal_proposal_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.rate (
    rate_no integer NOT NULL,
    merchant_no integer NOT NULL,
    side text NOT NULL,
    num bigint NOT NULL,
    den bigint NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    CONSTRAINT rate_den_check CHECK ((den > 0)),
    CONSTRAINT rate_num_check CHECK ((num > 0)),
    CONSTRAINT rate_side_check CHECK ((side = ANY (ARRAY['spend'::text, 'issue'::text])))
);

ALTER TABLE ONLY exchange.rate
    ADD CONSTRAINT rate_merchant_no_side_effective_at_key UNIQUE (merchant_no, side, effective_at);

ALTER TABLE ONLY exchange.rate
    ADD CONSTRAINT rate_pkey PRIMARY KEY (rate_no);

GRANT SELECT,INSERT ON TABLE exchange.rate TO tongdui_app;

CREATE TABLE exchange.rate_limit (
    limit_no bigint NOT NULL,
    merchant_no integer NOT NULL,
    orders bigint,
    orders_seconds integer,
    requests bigint,
    requests_seconds integer,
    set_at timestamp with time zone NOT NULL,
    CONSTRAINT rate_limit_merchant_no_check CHECK ((merchant_no >= 0)),
    CONSTRAINT rate_limit_orders_check CHECK ((orders > 0)),
    CONSTRAINT rate_limit_orders_seconds_check CHECK ((orders_seconds > 0)),
    CONSTRAINT rate_limit_orders_whole CHECK (((orders IS NULL) = (orders_seconds IS NULL))),
    CONSTRAINT rate_limit_requests_check CHECK ((requests > 0)),
    CONSTRAINT rate_limit_requests_seconds_check CHECK ((requests_seconds > 0)),
    CONSTRAINT rate_limit_requests_whole CHECK (((requests IS NULL) = (requests_seconds IS NULL)))
);

ALTER TABLE ONLY exchange.rate_limit
    ADD CONSTRAINT rate_limit_pkey PRIMARY KEY (limit_no);

CREATE INDEX rate_limit_of_merchant ON exchange.rate_limit USING btree (merchant_no, limit_no DESC);

GRANT SELECT,INSERT ON TABLE exchange.rate_limit TO tongdui_app;

ALTER TABLE exchange.rate_limit ALTER COLUMN limit_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.rate_limit_limit_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE exchange.rate ALTER COLUMN rate_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange.rate_rate_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange.recovery_code (
    digest bytea NOT NULL,
    person_no integer NOT NULL,
    CONSTRAINT recovery_code_digest_check CHECK ((length(digest) = 32))
);

ALTER TABLE ONLY exchange.recovery_code
    ADD CONSTRAINT recovery_code_pkey PRIMARY KEY (digest);

CREATE INDEX recovery_code_of_person ON exchange.recovery_code USING btree (person_no);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.recovery_code TO tongdui_app;

CREATE TABLE exchange.session (
    digest bytea NOT NULL,
    person_no integer NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT session_digest_check CHECK ((length(digest) = 32))
);

ALTER TABLE ONLY exchange.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (digest);

CREATE INDEX session_of_person ON exchange.session USING btree (person_no) WHERE (ended_at IS NULL);

GRANT SELECT,INSERT,DELETE ON TABLE exchange.session TO tongdui_app;

GRANT UPDATE(seen_at) ON TABLE exchange.session TO tongdui_app;

GRANT UPDATE(ended_at) ON TABLE exchange.session TO tongdui_app;

CREATE TABLE exchange.signing_key (
    key_id text NOT NULL,
    merchant_no integer NOT NULL,
    public_key bytea NOT NULL,
    label text NOT NULL,
    registered_at timestamp with time zone NOT NULL,
    retires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT signing_key_check CHECK ((retires_at >= registered_at)),
    CONSTRAINT signing_key_check1 CHECK ((revoked_at >= registered_at)),
    CONSTRAINT signing_key_key_id_check CHECK ((key_id ~ '^[0-9A-Za-z_-]{43}$'::text)),
    CONSTRAINT signing_key_label_check CHECK ((length(label) <= 80)),
    CONSTRAINT signing_key_public_key_check CHECK ((length(public_key) = 32))
);

ALTER TABLE ONLY exchange.signing_key
    ADD CONSTRAINT signing_key_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY exchange.signing_key
    ADD CONSTRAINT signing_key_public_key_key UNIQUE (public_key);

CREATE INDEX signing_key_of_merchant ON exchange.signing_key USING btree (merchant_no);

GRANT SELECT,INSERT ON TABLE exchange.signing_key TO tongdui_app;

GRANT UPDATE(retires_at) ON TABLE exchange.signing_key TO tongdui_app;

GRANT UPDATE(revoked_at) ON TABLE exchange.signing_key TO tongdui_app;

CREATE TABLE exchange.tariff (
    effective_at timestamp with time zone NOT NULL,
    fee_bps integer NOT NULL,
    CONSTRAINT tariff_fee_bps_check CHECK (((fee_bps >= 0) AND (fee_bps <= 10000)))
);

ALTER TABLE ONLY exchange.tariff
    ADD CONSTRAINT tariff_pkey PRIMARY KEY (effective_at);

GRANT SELECT,INSERT ON TABLE exchange.tariff TO tongdui_app;

CREATE TABLE public.migration (
    number integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT transaction_timestamp() NOT NULL,
    CONSTRAINT migration_number_check CHECK ((number > 0)),
    CONSTRAINT migration_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_name_key UNIQUE (name);

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);

GRANT SELECT ON TABLE public.migration TO tongdui_app;

CREATE TABLE settlement.account (
    part smallint NOT NULL,
    merchant_no integer NOT NULL,
    cap_cu bigint NOT NULL,
    collateral_cu bigint NOT NULL,
    held_cu bigint NOT NULL,
    CONSTRAINT account_cap_cu_check CHECK ((cap_cu >= 0)),
    CONSTRAINT account_collateral_cu_check CHECK ((collateral_cu >= 0)),
    CONSTRAINT account_held_cu_check CHECK ((held_cu >= 0))
)
WITH (fillfactor='20');

ALTER TABLE ONLY settlement.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (part, merchant_no);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.account TO tongdui_app;

CREATE TABLE settlement.arrangement (
    part smallint NOT NULL,
    arrangement_no integer NOT NULL,
    code text NOT NULL,
    model text NOT NULL,
    CONSTRAINT arrangement_arrangement_no_check CHECK ((arrangement_no > 0)),
    CONSTRAINT arrangement_code_check CHECK (((code ~ '^[a-z][a-z0-9-]{0,19}$'::text) AND (code <> 'main'::text))),
    CONSTRAINT arrangement_model_check CHECK ((model = ANY (ARRAY['multilateral'::text, 'bilateral'::text, 'gross'::text])))
);

ALTER TABLE ONLY settlement.arrangement
    ADD CONSTRAINT arrangement_part_code_key UNIQUE (part, code);

ALTER TABLE ONLY settlement.arrangement
    ADD CONSTRAINT arrangement_pkey PRIMARY KEY (part, arrangement_no);

GRANT SELECT,INSERT ON TABLE settlement.arrangement TO tongdui_app;

CREATE TABLE settlement.bank_entry (
    statement_no integer NOT NULL,
    entry_no integer NOT NULL,
    place text NOT NULL,
    amount_fen bigint NOT NULL,
    booked_on date NOT NULL,
    reference text NOT NULL,
    bank_reference text NOT NULL,
    party_name text NOT NULL,
    party_account text NOT NULL,
    is_return boolean NOT NULL,
    CONSTRAINT bank_entry_entry_no_check CHECK ((entry_no > 0))
);

ALTER TABLE ONLY settlement.bank_entry
    ADD CONSTRAINT bank_entry_pkey PRIMARY KEY (statement_no, entry_no);

GRANT SELECT,INSERT ON TABLE settlement.bank_entry TO tongdui_app;

CREATE TABLE settlement.bank_statement (
    statement_no integer NOT NULL,
    account text NOT NULL,
    number text NOT NULL,
    opened_on date NOT NULL,
    closed_on date NOT NULL,
    opening_fen bigint NOT NULL,
    closing_fen bigint NOT NULL,
    entries integer NOT NULL,
    follows integer,
    content_sha256 bytea NOT NULL,
    imported_at timestamp with time zone NOT NULL,
    CONSTRAINT bank_statement_account_check CHECK ((account ~ '^[0-9A-Z]{1,34}$'::text)),
    CONSTRAINT bank_statement_check CHECK ((closed_on >= opened_on)),
    CONSTRAINT bank_statement_content_sha256_check CHECK ((length(content_sha256) = 32)),
    CONSTRAINT bank_statement_entries_check CHECK ((entries >= 0)),
    CONSTRAINT bank_statement_number_check CHECK ((number <> ''::text)),
    CONSTRAINT bank_statement_statement_no_check CHECK ((statement_no > 0))
);

ALTER TABLE ONLY settlement.bank_statement
    ADD CONSTRAINT bank_statement_account_number_opened_on_key UNIQUE (account, number, opened_on);

ALTER TABLE ONLY settlement.bank_statement
    ADD CONSTRAINT bank_statement_content_sha256_key UNIQUE (content_sha256);

ALTER TABLE ONLY settlement.bank_statement
    ADD CONSTRAINT bank_statement_follows_key UNIQUE (follows);

ALTER TABLE ONLY settlement.bank_statement
    ADD CONSTRAINT bank_statement_pkey PRIMARY KEY (statement_no);

CREATE UNIQUE INDEX bank_statement_first ON settlement.bank_statement USING btree (account) WHERE (follows IS NULL);

GRANT SELECT,INSERT ON TABLE settlement.bank_statement TO tongdui_app;

CREATE TABLE settlement.batch (
    cycle_no integer NOT NULL,
    sequence integer NOT NULL,
    cycle_id text NOT NULL,
    manifest bytea NOT NULL,
    previous_sha256 bytea NOT NULL,
    manifest_sha256 bytea NOT NULL,
    cut_at timestamp with time zone NOT NULL,
    CONSTRAINT batch_manifest_sha256_check CHECK ((length(manifest_sha256) = 32)),
    CONSTRAINT batch_previous_sha256_check CHECK ((length(previous_sha256) = 32)),
    CONSTRAINT batch_sequence_check CHECK ((sequence > 0))
);

ALTER TABLE ONLY settlement.batch
    ADD CONSTRAINT batch_cycle_id_key UNIQUE (cycle_id);

ALTER TABLE ONLY settlement.batch
    ADD CONSTRAINT batch_manifest_sha256_key UNIQUE (manifest_sha256);

ALTER TABLE ONLY settlement.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (cycle_no);

ALTER TABLE ONLY settlement.batch
    ADD CONSTRAINT batch_sequence_key UNIQUE (sequence);

GRANT SELECT,INSERT ON TABLE settlement.batch TO tongdui_app;

CREATE TABLE settlement.calendar (
    calendar_no integer NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    terms jsonb NOT NULL,
    arrangement text DEFAULT 'main'::text NOT NULL
);

ALTER TABLE ONLY settlement.calendar
    ADD CONSTRAINT calendar_effective_at_key UNIQUE (arrangement, effective_at);

ALTER TABLE ONLY settlement.calendar
    ADD CONSTRAINT calendar_pkey PRIMARY KEY (calendar_no);

GRANT SELECT,INSERT ON TABLE settlement.calendar TO tongdui_app;

ALTER TABLE settlement.calendar ALTER COLUMN calendar_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME settlement.calendar_calendar_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE settlement.confirmation (
    confirmation_no bigint NOT NULL,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    verdict text NOT NULL,
    reason text NOT NULL,
    orders integer NOT NULL,
    received_at timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    document text NOT NULL,
    document_sha256 bytea NOT NULL,
    public_key bytea NOT NULL,
    CONSTRAINT confirmation_check CHECK (((length(reason) <= 500) AND ((verdict = 'confirmed'::text) OR (reason <> ''::text)))),
    CONSTRAINT confirmation_confirmation_no_check CHECK ((confirmation_no > 0)),
    CONSTRAINT confirmation_document_sha256_check CHECK ((length(document_sha256) = 32)),
    CONSTRAINT confirmation_orders_check CHECK ((orders >= 0)),
    CONSTRAINT confirmation_public_key_check CHECK ((length(public_key) = 32)),
    CONSTRAINT confirmation_verdict_check CHECK ((verdict = ANY (ARRAY['confirmed'::text, 'objected'::text])))
);

ALTER TABLE ONLY settlement.confirmation
    ADD CONSTRAINT confirmation_document_sha256_key UNIQUE (document_sha256);

ALTER TABLE ONLY settlement.confirmation
    ADD CONSTRAINT confirmation_pkey PRIMARY KEY (confirmation_no);

CREATE INDEX confirmation_of ON settlement.confirmation USING btree (cycle_no, merchant_no, confirmation_no);

GRANT SELECT,INSERT ON TABLE settlement.confirmation TO tongdui_app;

CREATE TABLE settlement.contribution (
    part smallint NOT NULL,
    party integer NOT NULL,
    cu bigint NOT NULL,
    CONSTRAINT contribution_cu_check CHECK ((cu >= 0)),
    CONSTRAINT contribution_party_check CHECK ((party >= 0))
);

ALTER TABLE ONLY settlement.contribution
    ADD CONSTRAINT contribution_pkey PRIMARY KEY (part, party);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.contribution TO tongdui_app;

CREATE TABLE settlement.cycle (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    cycle_id text NOT NULL,
    state text NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    cut_off_at timestamp with time zone,
    closed_at timestamp with time zone,
    settled_at timestamp with time zone,
    first_seq bigint NOT NULL,
    last_seq bigint,
    arrangement_no integer DEFAULT 0 NOT NULL,
    CONSTRAINT cycle_state_and_times_agree CHECK ((((state = 'open'::text) = (closed_at IS NULL)) AND ((state = 'settled'::text) = (settled_at IS NOT NULL)) AND ((closed_at IS NULL) = (last_seq IS NULL)))),
    CONSTRAINT cycle_state_check CHECK ((state = ANY (ARRAY['open'::text, 'closed'::text, 'settled'::text])))
);

ALTER TABLE ONLY settlement.cycle
    ADD CONSTRAINT cycle_part_cycle_id_key UNIQUE (part, cycle_id);

ALTER TABLE ONLY settlement.cycle
    ADD CONSTRAINT cycle_pkey PRIMARY KEY (part, cycle_no);

CREATE UNIQUE INDEX cycle_one_open ON settlement.cycle USING btree (part, arrangement_no) WHERE (state = 'open'::text);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.cycle TO tongdui_app;

CREATE TABLE settlement.debt (
    part smallint NOT NULL,
    debtor integer NOT NULL,
    creditor integer NOT NULL,
    cu bigint NOT NULL,
    CONSTRAINT debt_check CHECK ((creditor <> debtor)),
    CONSTRAINT debt_cu_check CHECK ((cu >= 0)),
    CONSTRAINT debt_debtor_check CHECK ((debtor > 0))
);

ALTER TABLE ONLY settlement.debt
    ADD CONSTRAINT debt_pkey PRIMARY KEY (part, debtor, creditor);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.debt TO tongdui_app;

CREATE TABLE settlement.discharge (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    one integer NOT NULL,
    other integer NOT NULL,
    one_cu bigint NOT NULL,
    other_cu bigint NOT NULL,
    fees_cu bigint NOT NULL,
    rounding_cu bigint NOT NULL,
    CONSTRAINT discharge_check CHECK ((other > one)),
    CONSTRAINT discharge_check1 CHECK (((((one_cu + other_cu) + fees_cu) + rounding_cu) = 0)),
    CONSTRAINT discharge_one_check CHECK ((one > 0))
);

ALTER TABLE ONLY settlement.discharge
    ADD CONSTRAINT discharge_pkey PRIMARY KEY (part, cycle_no, one, other);

GRANT SELECT,INSERT ON TABLE settlement.discharge TO tongdui_app;

CREATE TABLE settlement.dispute (
    dispute_no integer NOT NULL,
    part smallint NOT NULL,
    order_seq bigint NOT NULL,
    cycle_no integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    opener integer NOT NULL,
    match_no integer,
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    text text NOT NULL,
    who text NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    answer_due_at timestamp with time zone NOT NULL,
    deadline timestamp with time zone NOT NULL,
    key uuid NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT dispute_body_check CHECK (((length(body) >= 16) AND (length(body) <= 32))),
    CONSTRAINT dispute_check CHECK (((cycle_no = 0) = (order_seq = 0))),
    CONSTRAINT dispute_check1 CHECK (((acceptor > 0) AND (acceptor <> issuer))),
    CONSTRAINT dispute_check2 CHECK (((opener = 0) OR (opener = issuer) OR (opener = acceptor))),
    CONSTRAINT dispute_check3 CHECK ((answer_due_at >= opened_at)),
    CONSTRAINT dispute_check4 CHECK ((deadline >= answer_due_at)),
    CONSTRAINT dispute_claims CHECK ((((0 <= fee_cu) AND (fee_cu <= value_cu) AND (value_cu <= debit_cu) AND (value_cu > 0)) OR ((debit_cu <= 0) AND (value_cu <= 0) AND (fee_cu <= 0) AND (((debit_cu + value_cu) + fee_cu) < 0)))),
    CONSTRAINT dispute_dispute_no_check CHECK ((dispute_no > 0)),
    CONSTRAINT dispute_issuer_check CHECK ((issuer > 0)),
    CONSTRAINT dispute_order_seq_check CHECK ((order_seq >= 0)),
    CONSTRAINT dispute_text_check CHECK (((length(text) >= 1) AND (length(text) <= 2000))),
    CONSTRAINT dispute_who_check CHECK ((who <> ''::text))
);

ALTER TABLE ONLY settlement.dispute
    ADD CONSTRAINT dispute_key UNIQUE (key, opener);

ALTER TABLE ONLY settlement.dispute
    ADD CONSTRAINT dispute_pkey PRIMARY KEY (dispute_no);

CREATE INDEX dispute_acceptor ON settlement.dispute USING btree (acceptor, dispute_no);

CREATE INDEX dispute_issuer ON settlement.dispute USING btree (issuer, dispute_no);

CREATE INDEX dispute_order ON settlement.dispute USING btree (order_seq, part) WHERE (order_seq > 0);

GRANT SELECT,INSERT ON TABLE settlement.dispute TO tongdui_app;

CREATE TABLE settlement.dispute_step (
    dispute_no integer NOT NULL,
    step_no integer NOT NULL,
    step text NOT NULL,
    party integer NOT NULL,
    who text NOT NULL,
    text text NOT NULL,
    file_sha256 bytea,
    file_bytes bigint,
    debit_cu bigint DEFAULT 0 NOT NULL,
    value_cu bigint DEFAULT 0 NOT NULL,
    fee_cu bigint DEFAULT 0 NOT NULL,
    asked bytea,
    at timestamp with time zone NOT NULL,
    key uuid NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT dispute_step_asked_check CHECK ((length(asked) = 16)),
    CONSTRAINT dispute_step_body_check CHECK (((length(body) >= 16) AND (length(body) <= 32))),
    CONSTRAINT dispute_step_check CHECK (((file_sha256 IS NULL) = (file_bytes IS NULL))),
    CONSTRAINT dispute_step_check1 CHECK (((step = ANY (ARRAY['accept'::text, 'reject'::text])) = (asked IS NOT NULL))),
    CONSTRAINT dispute_step_check2 CHECK (((step = 'accept'::text) OR ((debit_cu = 0) AND (value_cu = 0) AND (fee_cu = 0)))),
    CONSTRAINT dispute_step_file_bytes_check CHECK (((file_bytes >= 0) AND (file_bytes <= 100000000))),
    CONSTRAINT dispute_step_file_sha256_check CHECK ((length(file_sha256) = 32)),
    CONSTRAINT dispute_step_party_check CHECK ((party >= 0)),
    CONSTRAINT dispute_step_step_check CHECK ((step = ANY (ARRAY['answer'::text, 'evidence'::text, 'accept'::text, 'reject'::text, 'withdraw'::text]))),
    CONSTRAINT dispute_step_step_no_check CHECK ((step_no > 0)),
    CONSTRAINT dispute_step_text_check CHECK (((length(text) >= 1) AND (length(text) <= 2000))),
    CONSTRAINT dispute_step_who_check CHECK ((who <> ''::text))
);

ALTER TABLE ONLY settlement.dispute_step
    ADD CONSTRAINT dispute_step_key UNIQUE (key, party);

ALTER TABLE ONLY settlement.dispute_step
    ADD CONSTRAINT dispute_step_pkey PRIMARY KEY (dispute_no, step_no);

CREATE UNIQUE INDEX dispute_ends_once ON settlement.dispute_step USING btree (dispute_no) WHERE (step = ANY (ARRAY['accept'::text, 'reject'::text, 'withdraw'::text]));

GRANT SELECT,INSERT ON TABLE settlement.dispute_step TO tongdui_app;

CREATE TABLE settlement.flush (
    part smallint NOT NULL,
    flush_no bigint NOT NULL,
    epoch bigint NOT NULL,
    first_seq bigint NOT NULL,
    events integer NOT NULL,
    at timestamp with time zone NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT flush_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT flush_events_check CHECK ((events > 0))
);

ALTER TABLE ONLY settlement.flush
    ADD CONSTRAINT flush_pkey PRIMARY KEY (flush_no, part);

GRANT SELECT,INSERT ON TABLE settlement.flush TO tongdui_app;

CREATE TABLE settlement.four_eyes (
    one boolean NOT NULL,
    since timestamp with time zone NOT NULL,
    CONSTRAINT four_eyes_one_check CHECK (one)
);

ALTER TABLE ONLY settlement.four_eyes
    ADD CONSTRAINT four_eyes_pkey PRIMARY KEY (one);

GRANT SELECT,INSERT ON TABLE settlement.four_eyes TO tongdui_app;

CREATE TABLE settlement.funds (
    part smallint NOT NULL,
    party integer NOT NULL,
    cu bigint NOT NULL,
    CONSTRAINT funds_party_check CHECK (((party <> 0) AND (party >= '-4'::integer)))
);

ALTER TABLE ONLY settlement.funds
    ADD CONSTRAINT funds_pkey PRIMARY KEY (part, party);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.funds TO tongdui_app;

CREATE TABLE settlement.funds_level (
    merchant_no integer NOT NULL,
    set_at timestamp with time zone NOT NULL,
    level_cu bigint NOT NULL,
    CONSTRAINT funds_level_level_cu_check CHECK (((level_cu >= 0) AND (level_cu < '1000000000000000'::bigint)))
);

ALTER TABLE ONLY settlement.funds_level
    ADD CONSTRAINT funds_level_pkey PRIMARY KEY (merchant_no, set_at);

GRANT SELECT,INSERT ON TABLE settlement.funds_level TO tongdui_app;

CREATE TABLE settlement.hold (
    part smallint NOT NULL,
    order_seq bigint NOT NULL,
    issuer integer NOT NULL,
    debit_cu bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    pinned_seq bigint,
    CONSTRAINT hold_debit_cu_check CHECK ((debit_cu > 0)),
    CONSTRAINT hold_pinned_later CHECK ((pinned_seq > order_seq))
);

ALTER TABLE ONLY settlement.hold
    ADD CONSTRAINT hold_pkey PRIMARY KEY (order_seq, part);

GRANT SELECT,INSERT,DELETE ON TABLE settlement.hold TO tongdui_app;

GRANT UPDATE(pinned_seq) ON TABLE settlement.hold TO tongdui_app;

CREATE TABLE settlement.instruction (
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    net_cu bigint NOT NULL,
    carry_before_cu bigint NOT NULL,
    pay_fen bigint NOT NULL,
    carry_after_cu bigint NOT NULL,
    counterparty_no integer DEFAULT 0 NOT NULL,
    CONSTRAINT instruction_carry_after_cu_check CHECK ((abs(carry_after_cu) < 100)),
    CONSTRAINT instruction_carry_before_cu_check CHECK ((abs(carry_before_cu) < 100)),
    CONSTRAINT instruction_check CHECK (((merchant_no < 0) OR ((carry_before_cu + net_cu) = ((pay_fen * 100) + carry_after_cu))))
);

ALTER TABLE ONLY settlement.instruction
    ADD CONSTRAINT instruction_pkey PRIMARY KEY (cycle_no, merchant_no, counterparty_no);

GRANT SELECT,INSERT ON TABLE settlement.instruction TO tongdui_app;

CREATE TABLE settlement.match (
    match_no integer NOT NULL,
    step text NOT NULL,
    difference text,
    made_at timestamp with time zone NOT NULL,
    made_by text NOT NULL,
    accepted_at timestamp with time zone,
    undone_at timestamp with time zone,
    cycle_no integer,
    merchant_no integer,
    CONSTRAINT match_check CHECK ((accepted_at >= made_at)),
    CONSTRAINT match_check1 CHECK ((undone_at >= made_at)),
    CONSTRAINT match_difference_check CHECK ((difference = ANY (ARRAY['amount'::text, 'sign'::text, 'date'::text, 'split'::text, 'units'::text]))),
    CONSTRAINT match_made_by_check CHECK ((made_by <> ''::text)),
    CONSTRAINT match_match_no_check CHECK ((match_no > 0)),
    CONSTRAINT match_of_lines_or_payments CHECK (((cycle_no IS NULL) = (merchant_no IS NULL))),
    CONSTRAINT match_step_check CHECK ((step = ANY (ARRAY['exact'::text, 'reference'::text, 'amount_and_day'::text, 'one_to_many'::text, 'person'::text])))
);

ALTER TABLE ONLY settlement.match
    ADD CONSTRAINT match_pkey PRIMARY KEY (match_no);

CREATE INDEX match_differing ON settlement.match USING btree (cycle_no, merchant_no) WHERE ((difference IS NOT NULL) AND (accepted_at IS NULL) AND (undone_at IS NULL));

GRANT SELECT,INSERT ON TABLE settlement.match TO tongdui_app;

GRANT UPDATE(accepted_at) ON TABLE settlement.match TO tongdui_app;

GRANT UPDATE(undone_at) ON TABLE settlement.match TO tongdui_app;

CREATE TABLE settlement.match_entry (
    match_no integer NOT NULL,
    statement_no integer NOT NULL,
    entry_no integer NOT NULL,
    holds boolean DEFAULT true NOT NULL
);

ALTER TABLE ONLY settlement.match_entry
    ADD CONSTRAINT match_entry_pkey PRIMARY KEY (match_no, statement_no, entry_no);

CREATE UNIQUE INDEX match_entry_once ON settlement.match_entry USING btree (statement_no, entry_no) WHERE holds;

CREATE INDEX match_entry_released ON settlement.match_entry USING btree (statement_no, entry_no) WHERE (NOT holds);

GRANT SELECT,INSERT ON TABLE settlement.match_entry TO tongdui_app;

GRANT UPDATE(holds) ON TABLE settlement.match_entry TO tongdui_app;

CREATE TABLE settlement.match_instruction (
    match_no integer NOT NULL,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    holds boolean DEFAULT true NOT NULL,
    counterparty_no integer DEFAULT 0 NOT NULL
);

ALTER TABLE ONLY settlement.match_instruction
    ADD CONSTRAINT match_instruction_pkey PRIMARY KEY (match_no, cycle_no, merchant_no, counterparty_no);

CREATE UNIQUE INDEX match_instruction_once ON settlement.match_instruction USING btree (cycle_no, merchant_no, counterparty_no) WHERE holds;

GRANT SELECT,INSERT ON TABLE settlement.match_instruction TO tongdui_app;

GRANT UPDATE(holds) ON TABLE settlement.match_instruction TO tongdui_app;

CREATE TABLE settlement.match_leaf (
    match_no integer NOT NULL,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    leaf_index bigint NOT NULL,
    holds boolean DEFAULT true NOT NULL,
    CONSTRAINT match_leaf_leaf_index_check CHECK ((leaf_index >= 0))
);

ALTER TABLE ONLY settlement.match_leaf
    ADD CONSTRAINT match_leaf_pkey PRIMARY KEY (match_no, leaf_index);

CREATE UNIQUE INDEX match_leaf_once ON settlement.match_leaf USING btree (cycle_no, merchant_no, leaf_index) WHERE holds;

GRANT SELECT,INSERT ON TABLE settlement.match_leaf TO tongdui_app;

GRANT UPDATE(holds) ON TABLE settlement.match_leaf TO tongdui_app;

CREATE TABLE settlement.match_line (
    match_no integer NOT NULL,
    file_no integer NOT NULL,
    line_no integer NOT NULL,
    holds boolean DEFAULT true NOT NULL
);

ALTER TABLE ONLY settlement.match_line
    ADD CONSTRAINT match_line_pkey PRIMARY KEY (match_no, file_no, line_no);

CREATE UNIQUE INDEX match_line_once ON settlement.match_line USING btree (file_no, line_no) WHERE holds;

CREATE INDEX match_line_released ON settlement.match_line USING btree (file_no, line_no) WHERE (NOT holds);

GRANT SELECT,INSERT ON TABLE settlement.match_line TO tongdui_app;

GRANT UPDATE(holds) ON TABLE settlement.match_line TO tongdui_app;

CREATE TABLE settlement.merchant (
    merchant_no integer NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    registered_at timestamp with time zone NOT NULL,
    CONSTRAINT merchant_code_check CHECK ((code ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$'::text)),
    CONSTRAINT merchant_merchant_no_check CHECK ((merchant_no > 0))
);

ALTER TABLE ONLY settlement.merchant
    ADD CONSTRAINT merchant_code_key UNIQUE (code);

ALTER TABLE ONLY settlement.merchant
    ADD CONSTRAINT merchant_pkey PRIMARY KEY (merchant_no);

GRANT SELECT,INSERT ON TABLE settlement.merchant TO tongdui_app;

CREATE TABLE settlement.merchant_file (
    file_no integer NOT NULL,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    name text NOT NULL,
    lines integer NOT NULL,
    amount_cu bigint NOT NULL,
    figure text NOT NULL,
    clock text NOT NULL,
    rounding text NOT NULL,
    content_sha256 bytea NOT NULL,
    imported_at timestamp with time zone NOT NULL,
    withdrawn_at timestamp with time zone,
    CONSTRAINT merchant_file_check CHECK ((withdrawn_at >= imported_at)),
    CONSTRAINT merchant_file_clock_check CHECK ((clock = ANY (ARRAY['till'::text, 'cleared'::text]))),
    CONSTRAINT merchant_file_content_sha256_check CHECK ((length(content_sha256) = 32)),
    CONSTRAINT merchant_file_figure_check CHECK ((figure = ANY (ARRAY['net'::text, 'gross'::text]))),
    CONSTRAINT merchant_file_file_no_check CHECK ((file_no > 0)),
    CONSTRAINT merchant_file_lines_check CHECK ((lines > 0)),
    CONSTRAINT merchant_file_rounding_check CHECK ((rounding = ANY (ARRAY['none'::text, 'toward_zero'::text, 'half_away'::text])))
);

ALTER TABLE ONLY settlement.merchant_file
    ADD CONSTRAINT merchant_file_pkey PRIMARY KEY (file_no);

CREATE UNIQUE INDEX merchant_file_once ON settlement.merchant_file USING btree (cycle_no, merchant_no, content_sha256) WHERE (withdrawn_at IS NULL);

GRANT SELECT,INSERT ON TABLE settlement.merchant_file TO tongdui_app;

GRANT UPDATE(withdrawn_at) ON TABLE settlement.merchant_file TO tongdui_app;

CREATE TABLE settlement.merchant_line (
    file_no integer NOT NULL,
    line_no integer NOT NULL,
    place text NOT NULL,
    order_id text NOT NULL,
    reference text NOT NULL,
    day date NOT NULL,
    amount_cu bigint NOT NULL,
    units bigint,
    counterparty text NOT NULL,
    CONSTRAINT merchant_line_line_no_check CHECK ((line_no > 0)),
    CONSTRAINT merchant_line_units_check CHECK ((units >= 0))
);

ALTER TABLE ONLY settlement.merchant_line
    ADD CONSTRAINT merchant_line_pkey PRIMARY KEY (file_no, line_no);

GRANT SELECT,INSERT ON TABLE settlement.merchant_line TO tongdui_app;

CREATE TABLE settlement.obligation (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    orders bigint NOT NULL,
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    CONSTRAINT obligation_check CHECK (((fee_cu <= value_cu) AND (value_cu <= debit_cu))),
    CONSTRAINT obligation_orders_check CHECK ((orders > 0))
)
WITH (fillfactor='20');

ALTER TABLE ONLY settlement.obligation
    ADD CONSTRAINT obligation_pkey PRIMARY KEY (part, cycle_no, issuer, acceptor);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.obligation TO tongdui_app;

CREATE TABLE settlement.pair_arrangement (
    part smallint NOT NULL,
    merchant_a integer NOT NULL,
    merchant_b integer NOT NULL,
    arrangement_no integer NOT NULL,
    next_no integer,
    CONSTRAINT pair_arrangement_check CHECK ((merchant_a < merchant_b)),
    CONSTRAINT pair_arrangement_check1 CHECK ((next_no <> arrangement_no))
);

ALTER TABLE ONLY settlement.pair_arrangement
    ADD CONSTRAINT pair_arrangement_pkey PRIMARY KEY (part, merchant_a, merchant_b);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.pair_arrangement TO tongdui_app;

CREATE TABLE settlement.partition (
    part smallint NOT NULL,
    epoch bigint NOT NULL,
    writer uuid,
    flush_no bigint NOT NULL,
    last_seq bigint NOT NULL,
    digest bytea NOT NULL,
    clock timestamp with time zone NOT NULL,
    clock_source text NOT NULL,
    cycle_no integer NOT NULL,
    funds_kept boolean DEFAULT false NOT NULL,
    CONSTRAINT partition_clock_source_check CHECK ((clock_source = ANY (ARRAY['wall'::text, 'caller'::text]))),
    CONSTRAINT partition_cycle_no_check CHECK ((cycle_no >= 0)),
    CONSTRAINT partition_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT partition_epoch_check CHECK ((epoch >= 0)),
    CONSTRAINT partition_flush_no_check CHECK ((flush_no >= 0)),
    CONSTRAINT partition_last_seq_check CHECK ((last_seq >= 0))
)
WITH (fillfactor='20');

ALTER TABLE ONLY settlement.partition
    ADD CONSTRAINT partition_pkey PRIMARY KEY (part);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.partition TO tongdui_app;

CREATE TABLE settlement."position" (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    merchant_no integer NOT NULL,
    net_cu bigint NOT NULL
)
WITH (fillfactor='20');

ALTER TABLE ONLY settlement."position"
    ADD CONSTRAINT position_pkey PRIMARY KEY (part, cycle_no, merchant_no);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement."position" TO tongdui_app;

CREATE VIEW settlement.posting AS
 SELECT e.part,
    e.seq,
    e.cycle_no,
    e.at,
    leg.merchant_no,
    leg.cu
   FROM (settlement.event e
     CROSS JOIN LATERAL ( VALUES (e.issuer,(- e.debit_cu)), (e.acceptor,(e.value_cu - e.fee_cu)), ('-1'::integer,e.fee_cu), ('-2'::integer,(e.debit_cu - e.value_cu))) leg(merchant_no, cu))
  WHERE (e.kind = ANY (ARRAY[3, 6, 20]));

GRANT SELECT ON TABLE settlement.posting TO tongdui_app;

CREATE TABLE settlement.reversed_obligation (
    part smallint NOT NULL,
    cycle_no integer NOT NULL,
    issuer integer NOT NULL,
    acceptor integer NOT NULL,
    reversals bigint NOT NULL,
    debit_cu bigint NOT NULL,
    value_cu bigint NOT NULL,
    fee_cu bigint NOT NULL,
    CONSTRAINT reversed_obligation_check CHECK ((issuer <> acceptor)),
    CONSTRAINT reversed_obligation_debit_cu_check CHECK ((debit_cu >= 0)),
    CONSTRAINT reversed_obligation_fee_cu_check CHECK ((fee_cu >= 0)),
    CONSTRAINT reversed_obligation_reversals_check CHECK ((reversals > 0)),
    CONSTRAINT reversed_obligation_value_cu_check CHECK ((value_cu >= 0))
)
WITH (fillfactor='20');

ALTER TABLE ONLY settlement.reversed_obligation
    ADD CONSTRAINT reversed_obligation_pkey PRIMARY KEY (part, cycle_no, issuer, acceptor);

GRANT SELECT,INSERT,UPDATE ON TABLE settlement.reversed_obligation TO tongdui_app;

CREATE TABLE settlement.trail (
    entry_no bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    who text NOT NULL,
    second text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    why text NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT trail_action_check CHECK ((action ~ '^[a-z_]+\.[a-z_]+$'::text)),
    CONSTRAINT trail_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT trail_entry_no_check CHECK ((entry_no > 0)),
    CONSTRAINT trail_two_people CHECK ((second <> who)),
    CONSTRAINT trail_who_check CHECK ((who <> ''::text)),
    CONSTRAINT trail_why_check CHECK ((length(why) <= 500))
);

ALTER TABLE ONLY settlement.trail
    ADD CONSTRAINT trail_pkey PRIMARY KEY (entry_no);

CREATE INDEX trail_of_subject ON settlement.trail USING btree (subject, action);

GRANT SELECT,INSERT ON TABLE settlement.trail TO tongdui_app;

CREATE TABLE settlement.trail_base (
    part smallint NOT NULL,
    last_seq bigint NOT NULL
);

ALTER TABLE ONLY settlement.trail_base
    ADD CONSTRAINT trail_base_pkey PRIMARY KEY (part);

GRANT SELECT ON TABLE settlement.trail_base TO tongdui_app;

ALTER TABLE ONLY exchange.connection
    ADD CONSTRAINT connection_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES exchange.programme(merchant_no);

ALTER TABLE ONLY exchange.consent
    ADD CONSTRAINT consent_member_no_fkey FOREIGN KEY (member_no) REFERENCES exchange.member(member_no);

ALTER TABLE ONLY exchange.dead_letter
    ADD CONSTRAINT dead_letter_endpoint_no_fkey FOREIGN KEY (endpoint_no) REFERENCES exchange.endpoint(endpoint_no);

ALTER TABLE ONLY exchange.household_member
    ADD CONSTRAINT household_member_household_id_fkey FOREIGN KEY (household_id) REFERENCES exchange.household(household_id);

ALTER TABLE ONLY exchange.household_member
    ADD CONSTRAINT household_member_member_no_fkey FOREIGN KEY (member_no) REFERENCES exchange.member(member_no);

ALTER TABLE ONLY exchange.household
    ADD CONSTRAINT household_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES exchange.programme(merchant_no);

ALTER TABLE ONLY exchange.household_rules
    ADD CONSTRAINT household_rules_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES exchange.programme(merchant_no);

ALTER TABLE ONLY exchange.journey_line
    ADD CONSTRAINT journey_line_journey_no_fkey FOREIGN KEY (journey_no) REFERENCES exchange.journey(journey_no);

ALTER TABLE ONLY exchange.member_key
    ADD CONSTRAINT member_key_member_no_fkey FOREIGN KEY (member_no) REFERENCES exchange.member(member_no);

ALTER TABLE ONLY exchange.member_link
    ADD CONSTRAINT member_link_member_no_fkey FOREIGN KEY (member_no) REFERENCES exchange.member(member_no);

ALTER TABLE ONLY exchange.member_link
    ADD CONSTRAINT member_link_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES exchange.programme(merchant_no);

ALTER TABLE ONLY exchange.member_name
    ADD CONSTRAINT member_name_member_no_fkey FOREIGN KEY (member_no) REFERENCES exchange.member(member_no);

ALTER TABLE ONLY exchange.member_rules
    ADD CONSTRAINT member_rules_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES exchange.programme(merchant_no);

ALTER TABLE ONLY exchange.programme
    ADD CONSTRAINT programme_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES settlement.merchant(merchant_no);

ALTER TABLE ONLY exchange.proposal_decision
    ADD CONSTRAINT proposal_decision_proposal_no_maker_fkey FOREIGN KEY (proposal_no, maker) REFERENCES exchange.proposal(proposal_no, maker);

ALTER TABLE ONLY exchange.proposal_done
    ADD CONSTRAINT proposal_done_proposal_no_fkey FOREIGN KEY (proposal_no) REFERENCES exchange.proposal_decision(proposal_no);

ALTER TABLE ONLY exchange.rate
    ADD CONSTRAINT rate_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES exchange.programme(merchant_no);

ALTER TABLE ONLY exchange.recovery_code
    ADD CONSTRAINT recovery_code_person_no_fkey FOREIGN KEY (person_no) REFERENCES exchange.person(person_no);

ALTER TABLE ONLY exchange.session
    ADD CONSTRAINT session_person_no_fkey FOREIGN KEY (person_no) REFERENCES exchange.person(person_no);

ALTER TABLE ONLY settlement.bank_entry
    ADD CONSTRAINT bank_entry_statement_no_fkey FOREIGN KEY (statement_no) REFERENCES settlement.bank_statement(statement_no);

ALTER TABLE ONLY settlement.bank_statement
    ADD CONSTRAINT bank_statement_follows_fkey FOREIGN KEY (follows) REFERENCES settlement.bank_statement(statement_no);

ALTER TABLE ONLY settlement.confirmation
    ADD CONSTRAINT confirmation_cycle_no_fkey FOREIGN KEY (cycle_no) REFERENCES settlement.batch(cycle_no);

ALTER TABLE ONLY settlement.confirmation
    ADD CONSTRAINT confirmation_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES settlement.merchant(merchant_no);

ALTER TABLE ONLY settlement.dispute
    ADD CONSTRAINT dispute_match_no_fkey FOREIGN KEY (match_no) REFERENCES settlement.match(match_no);

ALTER TABLE ONLY settlement.dispute_step
    ADD CONSTRAINT dispute_step_dispute_no_fkey FOREIGN KEY (dispute_no) REFERENCES settlement.dispute(dispute_no);

ALTER TABLE ONLY settlement.funds_level
    ADD CONSTRAINT funds_level_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES settlement.merchant(merchant_no);

ALTER TABLE ONLY settlement.instruction
    ADD CONSTRAINT instruction_cycle_no_fkey FOREIGN KEY (cycle_no) REFERENCES settlement.batch(cycle_no);

ALTER TABLE ONLY settlement.match_entry
    ADD CONSTRAINT match_entry_match_no_fkey FOREIGN KEY (match_no) REFERENCES settlement.match(match_no);

ALTER TABLE ONLY settlement.match_entry
    ADD CONSTRAINT match_entry_statement_no_entry_no_fkey FOREIGN KEY (statement_no, entry_no) REFERENCES settlement.bank_entry(statement_no, entry_no);

ALTER TABLE ONLY settlement.match_instruction
    ADD CONSTRAINT match_instruction_is_due FOREIGN KEY (cycle_no, merchant_no, counterparty_no) REFERENCES settlement.instruction(cycle_no, merchant_no, counterparty_no);

ALTER TABLE ONLY settlement.match_instruction
    ADD CONSTRAINT match_instruction_match_no_fkey FOREIGN KEY (match_no) REFERENCES settlement.match(match_no);

ALTER TABLE ONLY settlement.match_leaf
    ADD CONSTRAINT match_leaf_match_no_fkey FOREIGN KEY (match_no) REFERENCES settlement.match(match_no);

ALTER TABLE ONLY settlement.match_line
    ADD CONSTRAINT match_line_file_no_line_no_fkey FOREIGN KEY (file_no, line_no) REFERENCES settlement.merchant_line(file_no, line_no);

ALTER TABLE ONLY settlement.match_line
    ADD CONSTRAINT match_line_match_no_fkey FOREIGN KEY (match_no) REFERENCES settlement.match(match_no);

ALTER TABLE ONLY settlement.merchant_file
    ADD CONSTRAINT merchant_file_cycle_no_fkey FOREIGN KEY (cycle_no) REFERENCES settlement.batch(cycle_no);

ALTER TABLE ONLY settlement.merchant_file
    ADD CONSTRAINT merchant_file_merchant_no_fkey FOREIGN KEY (merchant_no) REFERENCES settlement.merchant(merchant_no);

ALTER TABLE ONLY settlement.merchant_line
    ADD CONSTRAINT merchant_line_file_no_fkey FOREIGN KEY (file_no) REFERENCES settlement.merchant_file(file_no);
