"""Give workspaces owners, contributors and readers, models grants of their own, and rows security by workspace.

What was there before belongs to all whom the group roles let in; so it stays, until an owner says otherwise.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
create table dbml._workspace_grants (
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    grantee      text not null check (grantee <> ''),
    privilege    text not null check (privilege in ('owner', 'contributor', 'reader', 'predictor')),
    granted_at   timestamptz not null default now(),
    granted_by   text not null,
    primary key (workspace_id, grantee)
)""",
    """
create table dbml._model_grants (
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    name         dbml._name not null,
    grantee      text not null check (grantee <> ''),
    privilege    text not null check (privilege in ('predict', 'read', 'write')),
    granted_at   timestamptz not null default now(),
    granted_by   text not null,
    primary key (workspace_id, name, grantee)
)""",
    # By name, for the roles may be made later.
    """
insert into dbml._workspace_grants (workspace_id, grantee, privilege, granted_by)
select w.workspace_id, g.grantee, g.privilege, session_user
from dbml._workspaces w,
     (values ('dbml_scripter', 'contributor'), ('dbml_reader', 'reader'), ('dbml_predictor', 'predictor')) g(grantee, privilege)
""",
    """
insert into dbml._workspace_grants (workspace_id, grantee, privilege, granted_by)
select w.workspace_id, w.created_by, 'owner', session_user
from dbml._workspaces w join pg_roles r on r.rolname = w.created_by
where w.name <> 'default'
on conflict do nothing""",
    # Roles to which the owner has granted functions and views by hand.  What grant_script grants is not of that kind.
    """
insert into dbml._workspace_grants (workspace_id, grantee, privilege, granted_by)
select w.workspace_id, held.grantee, (array['predictor', 'reader', 'contributor'])[max(held.rank)], session_user
from dbml._workspaces w,
     (select r.rolname::text as grantee, case when p.proname ~ '^predict' then 1
          when p.proname in ('model_bytes', 'artifact_bytes', 'run_output') then 2 else 3 end as rank
      from pg_proc p, aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
      where p.pronamespace = 'dbml'::regnamespace and a.grantee <> p.proowner and a.privilege_type = 'EXECUTE'
        and p.proname !~ '^(_|run_stored)'
      union all
      select r.rolname::text, 2
      from pg_class c, aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee
      where c.relnamespace = 'dbml'::regnamespace and a.grantee <> c.relowner and a.privilege_type = 'SELECT'
        and c.relkind = 'v' and c.relname !~ '^_') held
where held.grantee !~ '^dbml_(scripter|predictor|reader)$'
group by w.workspace_id, held.grantee
on conflict do nothing""",
    # What sql/ makes again, with more arguments.  model_bytes stays, for a user's view may name it, and only lets go of
    # find_model.
    """
do $$
begin
    if to_regprocedure('dbml.model_bytes(text, text)') is not null then
        create or replace function dbml.model_bytes(model text, workspace text default null) returns bytea
        language plpgsql as 'begin return null; end';
    end if;
end
$$""",
    "drop function if exists dbml_channel.find_workspace(text)",
    "drop function if exists dbml_channel.find_model(text, text)",
    "drop function if exists dbml_channel.send_model(bytea)",
    "drop function if exists dbml_channel._grant_stored(text)",
    "drop function if exists dbml_channel._check_script_owner(text, text, text)",
)

# By the workspace that a row names, or that of the run it belongs to; the policies are in sql/90_rights.
_SCOPED = (
    "_workspaces", "_workspace_grants", "_datasets", "_models", "_model_aliases", "_model_grants", "_experiments",
    "_environments", "_scripts", "_script_grants", "_runs", "_metrics", "_artifacts", "_outputs", "_output_parts",
)  # fmt: skip


def upgrade() -> None:
    secured = (f"alter table dbml.{table} enable row level security" for table in _SCOPED)
    for statement in (*_STATEMENTS, *secured):
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop grants")
