CREATE OR REPLACE VIEW {journal} AS
SELECT
    m.id, m.recorded_at, m.recorder, m.period, (m.period AT TIME ZONE {time_zone})::date AS day, m.movement_type, m.dim_hash,
    {dimensions_of_m}, {resources_of_m}, p.topic, p.partition, m.event_offset, m.batch_id
FROM {movements} AS m
LEFT JOIN _positions AS p ON m.position_id = p.id;
COMMENT ON VIEW {journal} IS 'Every movement of {register}, with the event that it came from.';
