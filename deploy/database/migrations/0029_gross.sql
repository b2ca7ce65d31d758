-- Gross arrangements: each line moves its money when it is written, and nothing is owed.

ALTER TABLE settlement.arrangement DROP CONSTRAINT arrangement_model_check;
ALTER TABLE settlement.arrangement
    ADD CONSTRAINT arrangement_model_check CHECK (model IN ('multilateral', 'bilateral', 'gross'));
