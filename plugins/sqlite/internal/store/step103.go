package store

// step103 has the records that are kept whole found by their batch, and a batch of such records alone tell how old it is.
const step103 = `CREATE INDEX gaps_batch ON gaps (batch);
CREATE INDEX notices_batch ON notices (batch);
CREATE INDEX events_batch ON events (batch);
UPDATE batches SET oldest = s.oldest, newest = s.newest FROM (SELECT batch, min(time) AS oldest, max(time) AS newest
FROM (SELECT batch, ended AS time FROM gaps UNION ALL SELECT batch, time FROM notices UNION ALL SELECT batch, time FROM events)
GROUP BY batch) s WHERE s.batch = batches.id AND batches.stop < batches.start;
`
