package store

// step102 has wide roll-ups made anew, at other widths and from hours alone: see [settle].
const step102 = `INSERT OR IGNORE INTO state VALUES ('settled', 0);
DELETE FROM program_sums WHERE width > 3600;
DELETE FROM remote_sums WHERE width > 3600;
`
