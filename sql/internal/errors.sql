-- One way to fail: an SQLSTATE of class TS, a lower-case fact with its ids, a detail, a hint.
CREATE OR REPLACE FUNCTION _errors() RETURNS TABLE (code text, meaning text) LANGUAGE sql IMMUTABLE AS $$
    VALUES
        ('TS001', 'There is no register of this name.'),
        ('TS002', 'A register or a column cannot have this name.'),
        ('TS003', 'A declaration says something that it cannot: a type, a choice, a column twice, a window of periods.'),
        ('TS004', 'A register of this name exists already.'),
        ('TS005', 'A register with movements is not dropped unless that is forced.'),
        ('TS006', 'A parameter of a function is missing or out of its bounds.'),
        ('TS007', 'Views or functions of somebody''s own depend on what has to be made anew.'),
        ('TS010', 'The data to post are no object and no array of objects.'),
        ('TS011', 'A question to a register is not one: an unknown dimension, a bad value in a filter, half a page.'),
        ('TS012', 'An element to post lacks a key.'),
        ('TS013', 'An element to post has a key that is none of the register''s.'),
        ('TS014', 'A value to post is not one of its column''s type, or would have to be rounded.'),
        ('TS015', 'An element to repost names another recorder.'),
        ('TS020', 'Totals, balances and what belongs to them are derived from movements, and not changed by hand.'),
        ('TS021', 'Two different cells have the same key; nothing was written.'),
        ('TS022', 'Movements are inserted and deleted; they are not updated, truncated, or written to in a partition.'),
        ('TS023', 'Pending deltas cannot be folded: the sum would not fit its type. Nothing is lost.'),
        ('TS030', 'A period is outside the window that the register declares.'),
        ('TS031', 'The period belongs to a partition that was detached.'),
        ('TS040', 'In this isolation level the function would not see what is committed while it waits.'),
        ('TS050', 'A position cannot be moved as asked: its topic is another one now, or there is none.'),
        ('TS060', 'Another rebuild of the register was begun and not finished.'),
        ('TS061', 'The register was altered since its rebuild began.'),
        ('TS062', 'A register with detached partitions is not rebuilt from its topic.'),
        ('TS063', 'The tables of a register have triggers, policies, publications or indexes of somebody''s own.'),
        ('TS064', 'A register has movements from topics that its rebuild does not read.'),
        ('TS065', 'The register is not being rebuilt from its topic.'),
        ('TS066', 'A rebuild has not read all that the live register has.'),
        ('TS067', 'A shadow that was made with a mapping never takes the place of its register.'),
        ('TS090', 'The installation is incomplete: a template is missing, or does not fit the functions.')
$$;
COMMENT ON FUNCTION _errors() IS 'The errors of class TS; the reference is generated from them.';

CREATE OR REPLACE FUNCTION _fail(p_sqlstate text, p_message text, p_hint text, p_detail text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- An empty detail would be shown as one.
    IF p_detail IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = p_sqlstate, MESSAGE = p_message, HINT = p_hint;
    END IF;
    RAISE EXCEPTION USING ERRCODE = p_sqlstate, MESSAGE = p_message, HINT = p_hint, DETAIL = p_detail;
END
$$;
COMMENT ON FUNCTION _fail(text, text, text, text) IS 'Raises an error of the class TS.';

CREATE OR REPLACE FUNCTION _cell_collision(p_table text, p_dim_hash bigint) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    PERFORM _fail(
        'TS021', format('two different cells of %s share the key %s', p_table, p_dim_hash),
        'Nothing was written. A 64-bit key met its own double: please report the two cells.'
    );
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION _cell_collision(text, bigint) IS
'Called in place of an addition when a key matches and its dimension values do not.';
