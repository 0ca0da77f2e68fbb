curl http://127.0.0.1:8002/v1/models -H "Authorization: Bearer 0000"
