print("orpo-dist")
