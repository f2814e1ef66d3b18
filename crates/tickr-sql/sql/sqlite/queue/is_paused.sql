-- Whether a type is not to be claimed at ?2, by its name or with everything. Primary key.
SELECT EXISTS (
    SELECT 1
    FROM tickr_paused
    WHERE event_type IN ('', ?1)
      AND (until IS NULL OR until > ?2)
)
