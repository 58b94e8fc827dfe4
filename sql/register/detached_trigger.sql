-- Made when partitions were detached: a recorder whose movements are there can lose them no more. Registers without pay nothing.
CREATE OR REPLACE TRIGGER guard_detached BEFORE UPDATE ON {recorders} FOR EACH ROW
WHEN (old.first_period IS NOT NULL AND (new.first_period IS NULL OR new.first_period > old.first_period))
EXECUTE FUNCTION _guard_detached({register_literal});
