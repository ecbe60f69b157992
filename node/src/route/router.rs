//! One pool's routing: the decision together with the sticky table and the turns of round robin.
//!
//! ```text
//!  route ──→ To + Claim ──┬─ accepted ─→ ended      (the broker's CONNACK came and said yes)
//!        ──→ Wait         └─ abandoned ─→ route again, with that backend excluded
//! ```

use std::sync::Arc;

use parking_lot::Mutex;
use standfast_gossip::sticky::entry::{BackendRef, Hasher, Id};
use standfast_gossip::sticky::table::{Home, Table};

use super::balance::Picker;
use super::decision::{self, Decision, NoTrace, Outcome, Plan, Step};
use super::facts::{Candidate, HomeView, Policy, Request};

/// Routes the clients of one pool; shared between threads.
#[derive(Debug)]
pub struct Router {
    pool: Arc<str>,
    policy: Policy,
    table: Arc<Table>,
    ids: Hasher,
    /// Held from looking into the table until a proposal is in it: of two connections that a client makes at
    /// once, the second follows the first.
    picker: Mutex<Picker>,
}

/// What the sticky table has to be told about a connection on its way to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a claim ends by `accepted` or `abandoned`"]
pub struct Claim {
    /// The client.
    pub id: Id,
    /// Where it goes, by its number in the table.
    pub backend: BackendRef,
    /// What becomes of its entry; never [`Plan::None`].
    pub plan: Plan,
}

impl Router {
    /// A router for `pool`. `ids` makes the table's ids; its key is the cluster's.
    pub fn new(pool: Arc<str>, policy: Policy, table: Arc<Table>, ids: Hasher) -> Self {
        Self {
            pool,
            policy,
            table,
            ids,
            picker: Mutex::default(),
        }
    }

    /// The same pool under another policy: table and turns go on.
    pub fn renewed(&self, policy: Policy) -> Self {
        Self {
            pool: self.pool.clone(),
            policy,
            table: self.table.clone(),
            ids: self.ids.clone(),
            picker: Mutex::new(self.picker.lock().clone()),
        }
    }

    /// The pool's sticky table; empty where the pool is not sticky.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Decides for one client, at `now` in ms of the table's clock.
    ///
    /// A claim comes with a decision that touches the table, and is ended by [`Self::accepted`] or [`Self::abandoned`].
    pub fn route(
        &self,
        request: &Request<'_>,
        candidates: &[Candidate<'_>],
        now: u64,
    ) -> (Decision, Option<Claim>) {
        let id = self.id(request);
        let picker = &mut *self.picker.lock();
        let home = id.and_then(|id| self.table.lookup(id, now));
        let view = home.as_ref().map(|home| view(home, now));
        let decision = decision::decide(
            &self.policy,
            request,
            candidates,
            view,
            picker,
            &mut NoTrace,
        );
        let claim = id.and_then(|id| self.claim(id, decision, candidates));
        if let Some(Claim { id, backend, plan }) = claim
            && plan.proposes()
        {
            self.table.propose(id, backend, now);
        }
        (decision, claim)
    }

    /// What [`Self::route`] would decide now, with its reasons; nothing is changed by it.
    pub fn explain(
        &self,
        request: &Request<'_>,
        candidates: &[Candidate<'_>],
        now: u64,
    ) -> (Decision, Vec<Step>) {
        let home = self.id(request).and_then(|id| self.table.lookup(id, now));
        let view = home.as_ref().map(|home| view(home, now));
        decision::explain(&self.policy, request, candidates, view, &self.picker.lock())
    }

    /// The broker accepted the client: whether the table counts the connection, which is then told to [`Self::ended`].
    pub fn accepted(&self, claim: Claim, now: u64) -> bool {
        let Claim { id, backend, plan } = claim;
        if !plan.makes_home() {
            return self.table.visit(id, backend, now);
        }
        self.table.confirm(id, backend, now);
        true
    }

    /// The connection came to nothing: refused, timed out, or the client left before its CONNACK.
    pub fn abandoned(&self, claim: Claim) {
        if claim.plan.proposes() {
            self.table.abandon(claim.id);
        }
    }

    /// A connection that the table counts has ended.
    pub fn ended(&self, id: Id, now: u64) {
        self.table.release(id, now);
    }

    /// The id of a client in the table; none where the pool is not sticky, or for a client without an id.
    pub fn id(&self, request: &Request<'_>) -> Option<Id> {
        let key = request.key(self.policy.sticky?.key)?;
        Some(self.ids.id(&self.pool, key.kind(), key.bytes()))
    }

    fn claim(&self, id: Id, decision: Decision, candidates: &[Candidate<'_>]) -> Option<Claim> {
        let Decision {
            outcome: Outcome::To { index, .. },
            plan,
        } = decision
        else {
            return None;
        };
        if plan == Plan::None {
            return None;
        }
        let chosen = candidates
            .iter()
            .find(|candidate| candidate.index == index)?;
        Some(Claim {
            id,
            backend: self.table.intern(chosen.name),
            plan,
        })
    }
}

fn view(home: &Home, now: u64) -> HomeView<'_> {
    HomeView {
        name: &home.name,
        away: home.away.as_deref(),
        age: now.saturating_sub(home.since),
        provisional: home.provisional,
        pinned: home.pinned,
    }
}

#[cfg(test)]
mod tests;
