-- The pending folds are nobody's to touch, and none is left at a commit.
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {pending_folds}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
CREATE CONSTRAINT TRIGGER fold_at_commit AFTER INSERT ON {pending_folds}
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {fold_pending}();
