//! What operators ask and do.

use tickr_core::{
    Acted, Admin, Audit, DeadLetter, DeadQuery, Due, ListQuery, MessageId, MessageRecord, Page, Pause, PauseScope, Result, Selection,
    Storage as _, Transition, WorkerRecord, check_reason,
};

use crate::storage::SqliteStorage;
use crate::{act, audit, lookup, pause};

impl Admin for SqliteStorage {
    async fn get(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        self.reader().run("get", move |scope| lookup::get(scope, id)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<MessageRecord>> {
        let query = query.clone();
        self.reader().run("list", move |scope| lookup::list(scope, &query)).await
    }

    async fn history(&self, id: MessageId) -> Result<Vec<Transition>> {
        self.reader().run("history", move |scope| lookup::history(scope, id)).await
    }

    async fn list_dead(&self, query: &DeadQuery) -> Result<Page<DeadLetter>> {
        let query = query.clone();
        self.reader().run("list dead", move |scope| lookup::list_dead(scope, &query)).await
    }

    async fn requeue(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let selection = selection.clone();
        self.writer()?.run("requeue", move |scope| act::requeue(scope, &selection, due)).await
    }

    async fn kill(&self, selection: &Selection, reason: &str) -> Result<Acted> {
        check_reason(reason)?;
        let (selection, reason) = (selection.clone(), reason.to_owned());
        self.writer()?.run("kill", move |scope| act::kill(scope, &selection, &reason)).await
    }

    async fn discard(&self, selection: &Selection) -> Result<Acted> {
        let selection = selection.clone();
        self.writer()?.run("discard", move |scope| act::discard(scope, &selection)).await
    }

    async fn reschedule(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let selection = selection.clone();
        self.writer()?.run("reschedule", move |scope| act::reschedule(scope, &selection, due)).await
    }

    async fn resume(&self, scope: &PauseScope) -> Result<bool> {
        let paused = scope.clone();
        let resumed = self.writer()?.run("resume", move |scope| pause::resume(scope, &paused)).await?;
        if *scope == PauseScope::Everything {
            self.wakeups().wake_all();
        }
        Ok(resumed)
    }

    async fn paused(&self) -> Result<Vec<Pause>> {
        self.reader().run("paused", |scope| pause::in_force(scope)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        self.reader().run("workers", |scope| lookup::workers(scope)).await
    }

    async fn audit(&self) -> Result<Audit> {
        self.reader().run_long("audit", |scope| audit::audit(scope)).await
    }
}
