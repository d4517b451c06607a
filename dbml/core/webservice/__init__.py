"""Web services of registered models: deployed, asked, updated and deleted by the names of azureml-core."""

from dbml.core.webservice.aci import AciWebservice
from dbml.core.webservice.aks import AksWebservice
from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration
from dbml.core.webservice.iot import IotWebservice
from dbml.core.webservice.local import LocalWebservice
from dbml.core.webservice.webservice import Webservice

__all__ = [
    "AciWebservice",
    "AksWebservice",
    "IotWebservice",
    "LocalWebservice",
    "Webservice",
    "WebserviceDeploymentConfiguration",
]
