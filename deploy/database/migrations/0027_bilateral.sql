-- Instructions of bilateral cycles: one for each party and each of its counterparties (0 where that is everybody).

ALTER TABLE settlement.instruction ADD COLUMN counterparty_no integer NOT NULL DEFAULT 0;
ALTER TABLE settlement.match_instruction ADD COLUMN counterparty_no integer NOT NULL DEFAULT 0;

ALTER TABLE settlement.match_instruction DROP CONSTRAINT match_instruction_cycle_no_merchant_no_fkey;
ALTER TABLE settlement.instruction DROP CONSTRAINT instruction_pkey;
ALTER TABLE settlement.instruction
    ADD CONSTRAINT instruction_pkey PRIMARY KEY (cycle_no, merchant_no, counterparty_no);

ALTER TABLE settlement.match_instruction DROP CONSTRAINT match_instruction_pkey;
ALTER TABLE settlement.match_instruction
    ADD CONSTRAINT match_instruction_pkey PRIMARY KEY (match_no, cycle_no, merchant_no, counterparty_no);
ALTER TABLE settlement.match_instruction
    ADD CONSTRAINT match_instruction_is_due FOREIGN KEY (cycle_no, merchant_no, counterparty_no)
        REFERENCES settlement.instruction;
DROP INDEX settlement.match_instruction_once;
CREATE UNIQUE INDEX match_instruction_once
    ON settlement.match_instruction (cycle_no, merchant_no, counterparty_no) WHERE holds;
