-- Entries and lines that a person took out of a match. Without these indexes every open one reads all that any match
-- ever held.

CREATE INDEX match_entry_released ON settlement.match_entry (statement_no, entry_no) WHERE NOT holds;
CREATE INDEX match_line_released ON settlement.match_line (file_no, line_no) WHERE NOT holds;
