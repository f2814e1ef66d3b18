//! What operators ask and do.

use tickr_core::{
    Acted, Admin, Audit, DeadLetter, DeadQuery, Due, ListQuery, MessageId, MessageRecord, Page, Pause, PauseScope, Result, Selection,
    Storage as _, Transition, WorkerRecord, check_reason,
};

use crate::storage::PostgresStorage;
use crate::{act, audit, lookup, pause};

impl Admin for PostgresStorage {
    async fn get(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        self.executor().run("get", lookup::get(self.executor(), id)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<MessageRecord>> {
        self.executor().run("list", lookup::list(self.executor(), query)).await
    }

    async fn history(&self, id: MessageId) -> Result<Vec<Transition>> {
        let executor = self.executor();
        executor.run("history", executor.on_another(|| lookup::history(executor, id))).await
    }

    async fn list_dead(&self, query: &DeadQuery) -> Result<Page<DeadLetter>> {
        self.executor().run("list dead", lookup::list_dead(self.executor(), query)).await
    }

    async fn requeue(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let work = act::requeue(self.executor(), self.settings(), self.channel(), selection, due);
        let (acted, made_ready) = self.executor().run_steps("requeue", work).await?;
        self.wakeups().wake(&made_ready);
        Ok(acted)
    }

    async fn kill(&self, selection: &Selection, reason: &str) -> Result<Acted> {
        check_reason(reason)?;
        self.executor().run_steps("kill", act::kill(self.executor(), self.settings(), selection, reason)).await
    }

    async fn discard(&self, selection: &Selection) -> Result<Acted> {
        self.executor().run_steps("discard", act::discard(self.executor(), selection)).await
    }

    async fn reschedule(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let work = act::reschedule(self.executor(), self.settings(), self.channel(), selection, due);
        let (acted, made_ready) = self.executor().run_steps("reschedule", work).await?;
        self.wakeups().wake(&made_ready);
        Ok(acted)
    }

    async fn resume(&self, scope: &PauseScope) -> Result<bool> {
        let resumed = self.executor().run("resume", pause::resume(self.executor(), self.offset(), scope)).await?;
        match scope {
            PauseScope::Everything => self.wakeups().wake_all(),
            PauseScope::Type(event_type) => self.wakeups().wake([event_type]),
        }
        Ok(resumed)
    }

    async fn paused(&self) -> Result<Vec<Pause>> {
        self.executor().run("paused", pause::in_force(self.executor(), self.offset())).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        self.executor().run("workers", lookup::workers(self.executor())).await
    }

    async fn audit(&self) -> Result<Audit> {
        self.executor().run_long("audit", audit::audit(self.executor())).await
    }
}
