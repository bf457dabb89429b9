"""How a launch ended, told to people by Airflow's own notifiers."""
