"""Datastores: where a workspace's files are.

The default one, `workspaceblobstore`, is the database itself.  Others are folders and buckets that fsspec opens; their
credentials are named (`env:NAME`, `file:/path`) and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbml.data.abstract_datastore import AbstractDatastore
from dbml.data.azure_storage_datastore import AzureBlobDatastore
from dbml.data.database_datastore import NAME, DatabaseDatastore
from dbml.data.file_system_datastore import FileSystemDatastore, reference
from dbml.exceptions import DatastoreNotFoundException
from dbml.store.client import files

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

_KINDS: Mapping[str, type[AbstractDatastore]] = {
    "database": DatabaseDatastore, "local": FileSystemDatastore, "s3": FileSystemDatastore,
    "azure_blob": AzureBlobDatastore, "gcs": FileSystemDatastore,
}  # fmt: skip


class Datastore:
    """`Datastore(workspace, name)` returns the datastore of that name, `Datastore(workspace)` the default one.

    What it returns is an `AbstractDatastore` of its kind.  Raises: DatastoreNotFoundException.
    """

    def __new__(cls, workspace: Workspace, name: str | None = None) -> AbstractDatastore:  # type: ignore[misc]
        """Return the datastore of that name."""
        return cls.get_default(workspace) if name is None else cls.get(workspace, name)

    @staticmethod
    def get(workspace: Workspace, datastore_name: str) -> AbstractDatastore:
        """Return a datastore by its name.

        Raises: DatastoreNotFoundException where the workspace has none of that name.
        """
        rows = workspace._connection.do_again(files.list_datastores, workspace.name, datastore_name)
        if not rows:
            raise DatastoreNotFoundException(
                f"datastore {datastore_name!r} is not in workspace {workspace.name!r}", hint="workspace.datastores lists them"
            )
        return _KINDS[rows[0]["kind"]](workspace, rows[0])

    @staticmethod
    def get_default(workspace: Workspace) -> AbstractDatastore:
        """Return the default datastore: the database itself, unless another was set.

        Raises: DatastoreNotFoundException where the workspace is gone, or this user may not see it any more.
        """
        for one in Datastore.list(workspace).values():
            if one.is_default:
                return one
        raise DatastoreNotFoundException(
            f"workspace {workspace.name!r} has no datastore that this user may see", hint="Workspace.list() names workspaces"
        )

    @staticmethod
    def list(workspace: Workspace) -> dict[str, AbstractDatastore]:
        """Return the datastores of a workspace by name."""
        rows = workspace._connection.do_again(files.list_datastores, workspace.name)
        return {row["name"]: _KINDS[row["kind"]](workspace, row) for row in rows}

    @staticmethod
    def register_local_folder(
        workspace: Workspace, datastore_name: str, path: str, *, description: str | None = None,
        tags: Mapping[str, str] | None = None, overwrite: bool = False,
    ) -> AbstractDatastore:  # fmt: skip
        """Register a folder, which every machine that uses the datastore has under this absolute path."""
        return _register(workspace, datastore_name, "local", path, {}, {}, description, tags, overwrite)

    @staticmethod
    def register_s3_bucket(
        workspace: Workspace, datastore_name: str, bucket_name: str, *, prefix: str = "", key: str | None = None,
        secret: str | None = None, token: str | None = None, endpoint_url: str | None = None, region: str | None = None,
        anonymous: bool = False, description: str | None = None, tags: Mapping[str, str] | None = None, overwrite: bool = False,
    ) -> AbstractDatastore:  # fmt: skip
        """Register a bucket of S3, or of what speaks its protocol at endpoint_url.

        key, secret, token: where each credential is found, env:NAME or file:/path; without them, as boto finds them.
        Needs `pip install 'dbml[s3]'` to be opened.
        Raises: UserErrorException for a credential that is given as such.
        """
        client = {
            name: value for name, value in (("endpoint_url", endpoint_url), ("region_name", region)) if value is not None
        }  # fmt: skip
        options: dict[str, Any] = {**({"client_kwargs": client} if client else {}), **({"anon": True} if anonymous else {})}
        credentials = {**reference("key", key), **reference("secret", secret), **reference("token", token)}
        url = "/".join(part for part in (f"s3://{bucket_name}", prefix.strip("/")) if part)
        return _register(workspace, datastore_name, "s3", url, options, credentials, description, tags, overwrite)

    @staticmethod
    def register_azure_blob_container(
        workspace: Workspace, datastore_name: str, container_name: str, account_name: str, sas_token: str | None = None,
        account_key: str | None = None, protocol: str | None = None, endpoint: str | None = None, overwrite: bool = False,
        create_if_not_exists: bool = False, skip_validation: bool = False, blob_cache_timeout: int | None = None,
        grant_workspace_access: bool = False, subscription_id: str | None = None, resource_group: str | None = None,
        *, description: str | None = None, tags: Mapping[str, str] | None = None,
    ) -> AbstractDatastore:  # fmt: skip
        """Register a container of Azure Blob Storage.

        sas_token, account_key: where each is found, env:NAME or file:/path.  What concerns a cloud's workspace is accepted
        and has no effect.  Needs `pip install 'dbml[azure]'` to be opened.
        Raises: UserErrorException for a credential that is given as such.
        """
        options: dict[str, Any] = {"account_name": account_name}
        if endpoint is not None:
            options["account_host"] = f"{account_name}.blob.{endpoint}"
        credentials = {**reference("account_key", account_key), **reference("sas_token", sas_token)}
        url = f"az://{container_name}"
        return _register(workspace, datastore_name, "azure_blob", url, options, credentials, description, tags, overwrite)

    @staticmethod
    def register_gcs_bucket(
        workspace: Workspace, datastore_name: str, bucket_name: str, *, prefix: str = "", token: str | None = None,
        project: str | None = None, description: str | None = None, tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> AbstractDatastore:  # fmt: skip
        """Register a bucket of Google Cloud Storage.

        token: file:/path of a service account's key; without it, as Google's libraries find one.
        Needs `pip install 'dbml[gcs]'` to be opened.  Raises: UserErrorException for a credential that is given as such.
        """
        url = "/".join(part for part in (f"gs://{bucket_name}", prefix.strip("/")) if part)
        options = {"project": project} if project else {}
        return _register(
            workspace, datastore_name, "gcs", url, options, reference("token", token), description, tags, overwrite
        )  # fmt: skip

    @staticmethod
    def register_azure_file_share(*arguments: Any, **options: Any) -> AbstractDatastore:
        """Refuse: fsspec opens blob containers, not file shares."""
        raise NotImplementedError("file shares are not there; register_azure_blob_container and register_local_folder are")

    @staticmethod
    def register_azure_data_lake_gen2(*arguments: Any, **options: Any) -> AbstractDatastore:
        """Refuse: a lake of the second generation is a blob container too."""
        raise NotImplementedError("a Data Lake Gen2 is registered with register_azure_blob_container")

    @staticmethod
    def register_azure_sql_database(*arguments: Any, **options: Any) -> AbstractDatastore:
        """Refuse: the database that datasets query is this one."""
        raise NotImplementedError("other databases are reached by a foreign table here; Dataset.Tabular.from_sql_query reads it")


def _register(
    workspace: Workspace, name: str, kind: str, url: str, options: Mapping[str, Any],
    credentials: Mapping[str, Any], description: str | None, tags: Mapping[str, str] | None, overwrite: bool,
) -> AbstractDatastore:  # fmt: skip
    workspace._connection.do(
        files.register, workspace.name, name, kind, url, options=options, credentials=credentials, description=description,
        tags=dict(tags or {}), overwrite=overwrite,
    )  # fmt: skip
    return Datastore.get(workspace, name)


__all__ = ["NAME", "Datastore"]
