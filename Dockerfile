# The app on the Functions host, for wherever containers run. Its settings are those of the README, in the environment.
FROM mcr.microsoft.com/azure-functions/python:4-python3.13

ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true

# First, so that only a change of what is required installs it again.
COPY requirements.txt /home/site/wwwroot/
RUN pip install --no-cache-dir -r /home/site/wwwroot/requirements.txt

COPY host.json function_app.py /home/site/wwwroot/
COPY shared /home/site/wwwroot/shared
# So that no cold start compiles it.
RUN python -m compileall -q /home/site/wwwroot
