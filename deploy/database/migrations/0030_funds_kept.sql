-- Whether a movement of the bank was ever booked: from then on cycles are settled from funds alone (rule U13).

ALTER TABLE settlement.partition ADD COLUMN funds_kept boolean NOT NULL DEFAULT false;
UPDATE settlement.partition AS p
   SET funds_kept = true
 WHERE EXISTS (SELECT FROM settlement.event AS e WHERE e.part = p.part AND e.kind IN (23, 24));
