# The app on the Functions host, for any container platform. The environment has its settings, which docs/settings.md lists.
FROM mcr.microsoft.com/azure-functions/python:4-python3.13

ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true

# Before the code, so that a change of the code does not install the requirements again.
COPY constraints.txt requirements.lock requirements.txt /home/site/wwwroot/
# The second command installs only what the lock lacks: a package for telemetry that somebody has added (docs/telemetry.md).
RUN pip install --no-cache-dir --require-hashes -r /home/site/wwwroot/requirements.lock \
    && pip install --no-cache-dir -r /home/site/wwwroot/requirements.txt

COPY host.json function_app.py /home/site/wwwroot/
COPY shared /home/site/wwwroot/shared
# Compiled here, so that no cold start has to.
RUN python -m compileall -q /home/site/wwwroot
