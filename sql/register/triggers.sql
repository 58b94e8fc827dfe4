-- Statement triggers only: nothing runs once per row.
CREATE TRIGGER fold_inserted AFTER INSERT ON {movements}
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {inserted}();
CREATE TRIGGER fold_deleted AFTER DELETE ON {movements}
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {deleted}();
CREATE TRIGGER guard BEFORE UPDATE OR TRUNCATE ON {movements}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_movements();
