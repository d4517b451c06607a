create or replace view dbml.permissions as
select p.role, p.action, p.object_type, w.name::text as workspace, coalesce(p.object, w.name::text) as object, p.reason,
       p.granted_by, p.granted_at
from (
with recursive holders(role, held, steps) as (
    -- Every role, and what it is a member of.  Not pg_has_role, by which a superuser is a member of every role.
    select r.oid, r.oid, 0 from pg_roles r
    union
    select h.role, m.roleid, h.steps + 1 from holders h join pg_auth_members m on m.member = h.held
), given(grantee, action, object_type, workspace_id, object, reason, granted_by, granted_at) as (
    select r.rolname::text, 'administer', 'schema', null::bigint, 'dbml', 'owns the schema', null::text, null::timestamptz
    from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = 'dbml'
    union all
    select r.rolname::text, 'administer', 'schema', null, 'dbml', 'is the role for it', null, null from pg_roles r where r.rolname = 'dbml_admin'
    union all
    select r.rolname::text, 'administer', 'schema', null, 'dbml', 'is a superuser', null, null from pg_roles r where r.rolsuper
    union all
    select g.grantee, a.action, 'workspace', g.workspace_id, null, 'is ' || g.privilege, g.granted_by, g.granted_at
    from dbml._workspace_grants g
    join (values ('predictor', 'predict'), ('reader', 'predict'), ('reader', 'read'),
                 ('contributor', 'predict'), ('contributor', 'read'), ('contributor', 'write'),
                 ('owner', 'predict'), ('owner', 'read'), ('owner', 'write'), ('owner', 'own')) a(privilege, action) on a.privilege = g.privilege
    union all
    select g.grantee, a.action, 'model', g.workspace_id, g.name, 'was granted ' || g.privilege, g.granted_by, g.granted_at
    from dbml._model_grants g
    join (values ('predict', 'predict'), ('read', 'predict'), ('read', 'read'),
                 ('write', 'predict'), ('write', 'read'), ('write', 'write')) a(privilege, action) on a.privilege = g.privilege
    union all
    select g.grantee, 'run', 'script', g.workspace_id, g.name, 'was granted it', g.granted_by, g.granted_at from dbml._script_grants g
    union all
    select g.grantee, 'use', 'pool', null, g.pool, 'was granted it' || case when g.is_default then ' as default' else '' end,
           g.granted_by, g.granted_at
    from dbml._pool_grants g
    union all
    select coalesce(r.rolname::text, 'public'), lower(a.privilege_type), case p.prokind when 'p' then 'procedure' else 'function' end, null,
           p.oid::regprocedure::text, case when a.grantee = p.proowner then 'owns it' else 'was granted it' end, g.rolname::text, null
    from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    left join pg_roles r on r.oid = a.grantee left join pg_roles g on g.oid = a.grantor and a.grantee <> p.proowner
    where p.pronamespace = (select n.oid from pg_namespace n where n.nspname = 'dbml') and p.proname !~ '^_'
    union all
    select coalesce(r.rolname::text, 'public'), 'select', 'view', null, 'dbml.' || c.relname,
           case when a.grantee = c.relowner then 'owns it' else 'was granted it' end, g.rolname::text, null
    from pg_class c cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
    left join pg_roles r on r.oid = a.grantee left join pg_roles g on g.oid = a.grantor and a.grantee <> c.relowner
    where c.relnamespace = (select n.oid from pg_namespace n where n.nspname = 'dbml') and c.relname !~ '^_'
      and c.relkind = 'v' and a.privilege_type = 'SELECT'
)
select coalesce(holder.rolname::text, g.grantee) as role, g.action, g.object_type, g.workspace_id, g.object,
       case when h.steps > 0 then 'member of ' || g.grantee || ', which ' || g.reason else g.reason end as reason,
       g.granted_by, g.granted_at
from given g
left join pg_roles held on held.rolname = g.grantee
left join (select h.role, h.held, min(h.steps) as steps from holders h group by h.role, h.held) h on h.held = held.oid
left join pg_roles holder on holder.oid = h.role
) p
left join dbml._workspaces w using (workspace_id)
where (select dbml_channel.is_administrator(dbml_channel.caller()))
   or p.workspace_id = any (array(select dbml_channel.workspaces('own')))
   or p.role = any (array(
        select r.rolname::text from pg_roles r where pg_has_role((select dbml_channel.caller()), r.oid, 'member') union all select 'public'));
comment on view dbml.permissions is
    'Who may do what on what, and why: by ownership, by a grant, or as a member of a role that has it.

An administrator sees all of it, an owner what concerns the workspace, everybody what concerns itself. A row a right: who
may predict with a model, for example, is whoever may with that one or in its workspace, and has the function.';
comment on column dbml.permissions.role is 'A role, or public. A grant to a group is there for each member too.';
comment on column dbml.permissions.action is
    'administer dbml; predict in, read, write or own a workspace; predict with, read or write a model; run a script; use a pool; execute, select.';
comment on column dbml.permissions.object_type is 'schema, workspace, model, script, pool, function, procedure or view.';
comment on column dbml.permissions.workspace is 'Where the object is; NULL for what is in none.';
comment on column dbml.permissions.reason is 'Which grant, membership or ownership gives it.';
comment on column dbml.permissions.granted_by is 'Who granted it; NULL where it comes by ownership.';
