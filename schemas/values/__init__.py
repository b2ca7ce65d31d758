"""Points, rates, common-unit amounts, ids, reasons and refusals."""
