-- Removes condemned workers that hold nothing. A foreign key refuses it when a claim slipped in: next round. workers is tiny.
DELETE FROM tickr_workers
WHERE id = ANY (
    ARRAY(
        SELECT w.id
        FROM tickr_workers w
        WHERE w.lost
          AND NOT EXISTS (SELECT FROM tickr_open_claims o WHERE o.worker = w.id)
        ORDER BY w.id
        FOR UPDATE OF w SKIP LOCKED
    )
)
