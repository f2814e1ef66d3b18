-- Chooses the partitioned layout; once, with the first migration.
INSERT INTO tickr_layout (partition_seconds)
VALUES ($1)
